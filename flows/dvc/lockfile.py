"""dvc.lock: DVC writes it whole or not at all, so that who reads it beside a run never sees half of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base import files


def text(root: Path) -> str:
    """The text of dvc.lock of the checkout ``root``, empty when there is none; it needs no lock."""
    try:
        return (root / "dvc.lock").read_text("utf-8")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def written_whole() -> Iterator[None]:
    """DVC writes its YAML files beside their place and renames them.

    DVC itself empties a file and then writes it for as long as a second: a kill in between leaves half of dvc.lock.
    """
    from dvc.utils.serialize import _common

    before = _common._dump_data
    _common._dump_data = _dump
    try:
        yield
    finally:
        _common._dump_data = before


def _dump(path: Any, data: Any, dumper: Any, fs: Any = None, **options: Any) -> None:
    written = io.StringIO()
    dumper(data, written, **options)
    files.write_text(Path(path), written.getvalue())
