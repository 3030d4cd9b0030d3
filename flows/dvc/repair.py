"""What DVC leaves half-written when it is killed, made whole again.

DVC truncates two files before it writes them: ``.dvc/tmp/rwlock``, which says who reads and writes
what just now, and ``dvc.lock``. A ``kill -9`` in between leaves text that DVC itself refuses from then on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from components.base import files

KEPT = "tmp/stillroom.lock.before"
"""Below ``.dvc``: dvc.lock as it was when DVC began to work on it; there only while it does."""


def mend(root: Path, *, say: Callable[[str], None]) -> None:
    """Make the two files of the checkout ``root`` readable if a killed DVC left them torn; say what was done.

    A torn rwlock is removed: whoever it named is gone or holds DVC's guard, under which this looks. A torn dvc.lock
    becomes what it was before: the stage that had just ended is then restored from DVC's cache of runs.
    A dvc.lock that somebody else spoilt, a merge for instance, is left for DVC to complain about.
    """
    from dvc.lock import make_lock

    folder = root / ".dvc/tmp"
    if folder.is_dir() and _torn_json(folder / "rwlock"):
        with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
            if _torn_json(folder / "rwlock"):
                (folder / "rwlock").unlink()
                say("DVC was killed while it noted who works here: the torn note is removed")
    _mend_lock(root, say)


@contextlib.contextmanager
def kept(root: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Keep a copy of dvc.lock while DVC works on it, for `mend` to find if DVC is killed."""
    copy = root / ".dvc" / KEPT
    lock = root / "dvc.lock"
    copy.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(copy, lock.read_text("utf-8") if lock.is_file() else "")
    try:
        yield
    finally:
        _mend_lock(root, say)


def _mend_lock(root: Path, say: Callable[[str], None]) -> None:
    copy = root / ".dvc" / KEPT
    if not copy.is_file():
        return
    if _torn_lock(root / "dvc.lock"):
        files.write_text(root / "dvc.lock", copy.read_text("utf-8"))
        say("DVC was stopped while it wrote dvc.lock: it is again what it was before that stage")
    copy.unlink()


def _torn_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _torn_lock(path: Path) -> bool:
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
