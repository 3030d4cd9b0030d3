"""One run at a time in a checkout: DVC's own locks do not protect a process from itself."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.base.errors import UserError


class InUse(UserError):
    """Somebody else holds the lock, and the caller does not wait."""


@contextlib.contextmanager
def held(
    path: Path, *, what: str, wait: bool, say: Callable[[str], None], where: str = "in this checkout"
) -> Iterator[int]:
    """Hold the lock at ``path``; a second holder waits, having said who has it and ``where``, or stops with InUse.

    The kernel lets go when the holder dies, however it dies.  Yields the open file: a child process that
    is given it (``pass_fds``) holds the lock too, others do not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, ours = _open(path)
    try:
        if not _take(handle):
            holder = _holder(path)
            if not wait:
                raise InUse(f"this checkout is in use by {holder}: wait for it, or work in another clone")
            say(f"waiting for {holder}, which is running {where}")
            while not _take(handle):
                time.sleep(0.2)
        if ours:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "what": what}).encode(), 0)
        yield handle
        if ours:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _open(path: Path) -> tuple[int, bool]:
    """The file, and whether this user may write into it who holds the lock: it may be another user's, or read-only."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), True
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.is_file():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text("utf-8"))
        return f"`{holder['what']}` (process {holder['pid']})"
    except (ValueError, KeyError, OSError):
        return "another process"
