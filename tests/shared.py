"""What takes long to make and many tests look at: made once for all processes of `pytest -n`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pytest import TempPathFactory

_folders: list[Path] = []


def share(factory: TempPathFactory) -> None:
    """Before the first test: where all processes of this test run put what they share."""
    own = factory.getbasetemp()
    _folders.append(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled, in this process or in another; not to be changed."""
    folder = _folders[-1] / f"once-{name}"
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
