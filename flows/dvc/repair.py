"""Lock repair: restore the two files that DVC may leave half-written when it is killed.

DVC truncates ``.dvc/tmp/rwlock``, which lists the processes that read and write just now, and ``dvc.lock`` before it
writes them. After a ``kill -9`` in between DVC refuses to work.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.base import config, files
from components.base.errors import UserError

BACKUP = "tmp/stillroom.lock.before"
"""Below ``.dvc``: dvc.lock as it was when DVC began to work on it; there only while it does."""


_WRITING = 1.0  # seconds since the last change of dvc.lock in which DVC may still be writing it


def repair(root: Path, *, say: Callable[[str], None]) -> None:
    """Repair the two files of the checkout ``root`` if a killed DVC left them damaged; say what was done.

    A damaged rwlock is removed, under DVC's own lock of that file, so no living process loses its entry. A damaged
    dvc.lock is replaced by the copy from before; the stage that had just ended is then restored from DVC's run cache.
    A dvc.lock that something else damaged, a merge for instance, is left as it is: DVC reports it.
    """
    from dvc.lock import make_lock

    folder = root / ".dvc/tmp"
    if folder.is_dir() and _damaged_json(folder / "rwlock"):
        with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
            if _damaged_json(folder / "rwlock"):
                (folder / "rwlock").unlink()
                say("Removed a damaged DVC lock file that an interrupted run had left.")
    _repair_lock(root, say)


@contextlib.contextmanager
def backed_up(root: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Keep a copy of dvc.lock while DVC works on it, for `repair` to find if DVC is killed."""
    copy = root / ".dvc" / BACKUP
    lock = root / "dvc.lock"
    copy.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(copy, lock.read_text("utf-8") if lock.is_file() else "")
    try:
        yield
    finally:
        _repair_lock(root, say)


def lock_text(root: Path) -> str:
    """The text of dvc.lock, empty when there is none; what it was before, where DVC writes it or was killed writing it.

    Changes nothing, unlike `repair`, and needs no lock.
    """
    path, copy = root / "dvc.lock", root / ".dvc" / BACKUP
    held = _text(copy)  # there only while DVC works on it, and after a kill
    if held is None:
        return _text(path) or ""
    try:
        if time.time() - path.stat().st_mtime < _WRITING:
            return held
        text = path.read_text("utf-8")
        config.parse(text, "dvc.lock")
        return text
    except (FileNotFoundError, UnicodeDecodeError, UserError):
        return held


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None


def _repair_lock(root: Path, say: Callable[[str], None]) -> None:
    copy = root / ".dvc" / BACKUP
    if not copy.is_file():
        return
    path, before = root / "dvc.lock", copy.read_bytes()
    # Where DVC changed nothing there is nothing to look at, which takes longer than all else here.
    if (not path.is_file() or path.read_bytes() != before) and _damaged_lock(path):
        files.write_text(path, before.decode())
        say("Restored dvc.lock, which an interrupted run had left damaged, to what it was before the last stage.")
    copy.unlink()


def _damaged_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _damaged_lock(path: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, load_yaml
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(str(path)))
    except FileNotFoundError:
        return False
    except (ParseError, Invalid):
        return True
    return False
