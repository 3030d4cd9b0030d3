"""What is left behind in a checkout's own folder: old checkpoints, facts by old rules, what killed processes left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError
from flows.history import git
from flows.workspace.paths import State

_DAY = 86_400.0
_TRAINING = re.compile(r"[0-9a-f]{16}")
_SCRATCH = ("tmp*", "revision-*", "index-*")
"""What is made in the checkout's own folder for a moment."""
TASKS = "refs/stillroom/tasks"
"""Where commits are published for workers; they are on a branch too, or nobody asks for them any more."""
BESIDE = ("again", "backfill")
"""Worktrees beside the checkout: `.NAME.again-...` of `stillroom reproduce` and so on."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that can go: ``what`` and why in words, its ``bytes``, and how it goes, which may be done twice."""

    what: str
    bytes: int
    remove: Callable[[], None]


def find(state: State, *, days: float) -> Iterator[Item]:
    """What nobody used for ``days``; the newest of its kind stays whatever its age."""
    yield from _trainings(state.folder / "train", days)
    yield from _facts(state.folder / "facts", days)
    yield from _scratch(state.folder)
    yield from _worktrees(state.root, days)
    yield from _tasks(state.root, days)


def _trainings(folder: Path, days: float) -> Iterator[Item]:
    """Checkpoints of trainings that were stopped and that nobody went on with."""
    found = [each for each in folder.glob("*") if each.is_dir() and _TRAINING.fullmatch(each.name)]
    old = sorted(found, key=_touched)[:-1]  # the newest is what the next run may go on with
    gone = [each for each in old if _age(each) > days]
    if gone:
        yield _folders(f"checkpoints of {len(gone)} training(s) that were stopped, and not touched for {days:g} days",
                       gone)  # fmt: skip


def _facts(folder: Path, days: float) -> Iterator[Item]:
    """Facts by rules that were not used since ``days`` before their kind was used last."""
    gone = []
    for kind in sorted(each for each in folder.glob("*") if each.is_dir()):
        rules = sorted((each for each in kind.glob("*") if each.is_dir()), key=_touched)
        last = _touched(rules[-1]) if rules else 0.0
        gone += [each for each in rules[:-1] if (last - _touched(each)) / _DAY > days]
    if gone:
        yield _folders(f"facts about images by {len(gone)} rule(s) that stages no longer use", gone)


def _scratch(folder: Path) -> Iterator[Item]:
    """Temporary files that a killed process left; a living one has them for minutes, not for a day."""
    gone = [each for pattern in _SCRATCH for each in sorted(folder.glob(pattern)) if _age(each) > 1]
    if gone:
        yield _folders(f"{len(gone)} temporary file(s) that killed commands left", gone)


def _worktrees(root: Path, days: float) -> Iterator[Item]:
    """Worktrees that a killed command left beside the checkout."""
    for each in sorted(place for name in BESIDE for place in root.parent.glob(f".{root.name}.{name}-*")):
        if each.is_dir() and _age(each) > days:
            yield Item(what=f"{each.name}, a worktree that a killed command left", bytes=size(each),
                       remove=lambda each=each: drop_worktree(root, each))  # type: ignore[misc]  # fmt: skip


def _tasks(root: Path, days: float) -> Iterator[Item]:
    """Refs that named commits for workers."""
    rows = git.git(root, "for-each-ref", "--format=%(refname) %(committerdate:unix)", TASKS).splitlines()
    gone = [name for name, when in (row.rsplit(" ", 1) for row in rows) if (time.time() - int(when)) / _DAY > days]
    text = "".join(f"delete {name}\n" for name in gone).encode()

    def remove() -> None:
        git.git(root, "update-ref", "--stdin", stdin=text)

    if gone:
        yield Item(what=f"{len(gone)} ref(s) in {TASKS} for workers, {days:g} days old", bytes=0, remove=remove)


def drop_worktree(root: Path, place: Path) -> None:
    """Remove the worktree ``place`` and all in it."""
    with contextlib.suppress(UserError):  # git knows it no more
        git.git(root, "worktree", "remove", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)
    git.git(root, "worktree", "prune")


def size(path: Path) -> int:
    """The bytes of the files below ``path``, or of the file."""
    if path.is_file():
        return path.stat().st_size
    found = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += Path(folder, name).lstat().st_size
    return found


def _folders(what: str, gone: list[Path]) -> Item:
    def remove() -> None:
        for each in gone:
            shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)

    return Item(what=what, bytes=sum(map(size, gone)), remove=remove)


def _touched(path: Path) -> float:
    """When something in the folder ``path``, or the file, was written last."""
    times = [path.stat().st_mtime]
    for folder, _, names in os.walk(path):
        times += [Path(folder, name).lstat().st_mtime for name in names]
    return max(times)


def _age(path: Path) -> float:
    """Days since then."""
    return (time.time() - _touched(path)) / _DAY
