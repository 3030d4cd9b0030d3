"""Whether there is nothing to do, found without importing DVC or MLflow: the answer of most runs.

What is not plainly so is left to them: then `stillroom run` asks as ever, and tells what is wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import imports
from components.base.errors import UserError
from flows.data import edited, look, status
from flows.dvc import fetch, package
from flows.dvc.freshness import Freshness
from flows.registry import quick
from flows.workspace.paths import State


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What is registered, while nothing is stale; ``broken``: the clauses of the contract that do not hold."""

    result: dict[str, Any]
    broken: list[str]


def found(state: State, say: Callable[[str], None]) -> Idle | None:
    """What there is, when no stage is stale and the model is registered; None where that is not so, or not plain.

    Under the checkout's lock.  ``say`` gets the lines about the sources only where something is returned.
    """
    root, lines = state.root, list[str]()
    if fetch.missing(root) or not package.current(root):
        return None
    fresh = Freshness(root, state.folder / "idle.json")  # `data status` would forget what only this needs
    try:
        if not _sound(root, fresh):
            return None
        look.look_at_sources(state, say=lines.append)
        if fresh.stale():
            return None
        result = quick.published(state, fresh, fresh.locked(), fresh.sections()["register"]["name"])
        broken = status.contract(state, fresh) if result else None
    except UserError:  # the slow way comes upon it too
        return None
    finally:
        fresh.save()
    if result is None:
        return None
    for line in lines:
        say(line)
    return Idle(result=result, broken=broken or [])


def _sound(root: Path, fresh: Freshness) -> bool:
    """Whether the files that people edit can be read and hold what the code takes; kept by their content."""
    edit = [fresh.digest(path) for path in ("params.yaml", "dvc.yaml", "dvc.lock", "data/start.json",
                                            edited.RECORD.as_posix(), edited.DECISIONS.as_posix())]  # fmt: skip
    return bool(fresh.known(f"sound {' '.join(edit)} {_code()}", lambda: _checked(root)))


def _checked(root: Path) -> bool:
    from flows.dvc import schema  # the models of all parameters: a tenth of a second

    edited.check(root)
    schema.check(root)
    return True


def _code() -> str:
    """A hash that changes with the code that runs, by size and time of its files."""
    digest = hashlib.sha256()
    for top in ("components", "flows"):
        for folder, names, files in os.walk(imports.ROOT / top):
            names[:] = sorted(name for name in names if name != "__pycache__")
            for name in sorted(each for each in files if each.endswith(".py")):
                with contextlib.suppress(FileNotFoundError):  # an editor's, gone since
                    state = Path(folder, name).lstat()
                    digest.update(f"{folder}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
