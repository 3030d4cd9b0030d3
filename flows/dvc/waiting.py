"""Wait while a `dvc` command by hand works in the checkout; the checkout's own lock is taken before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

Result = TypeVar("Result")
_PAUSE = 0.2  # seconds between two tries


def wait_for_lock(repo: Any, *, say: Callable[[str], None]) -> None:
    """Have ``repo`` wait for DVC's lock without end, where DVC gives up after three seconds; say once who has it."""
    from dvc.lock import Lock, LockError

    lock = repo.lock
    if not isinstance(lock, Lock):  # hardlink_lock is set: it waits by itself, and does not know who has it
        lock._wait = True
        return

    def take() -> None:
        said = False
        while True:
            try:
                lock._do_lock()
                return
            except LockError:
                if not said:
                    said = True
                    say(f"waiting for {_holder(Path(lock.lockfile))}, which is running in this checkout")
                time.sleep(_PAUSE)

    lock.lock = take


def patiently(work: Callable[[], Result], *, say: Callable[[str], None]) -> Result:
    """``work``; where its files are in use by another `dvc` command, again when they are free.

    DVC finds out before it starts the stage: what it has not begun can be asked for again.
    """
    from dvc.exceptions import ReproductionError
    from dvc.lock import LockError

    said = False
    while True:
        try:
            return work()
        except ReproductionError as error:
            if not isinstance(error.__cause__, LockError):
                raise
            if not said:
                said = True
                blocking = [line.strip() for line in str(error.__cause__).splitlines() if "(PID " in line]
                who = ", ".join(dict.fromkeys(blocking)) or "another `dvc` command"
                say(f"waiting for {who}, which is running in this checkout")
            time.sleep(_PAUSE)


def _holder(path: Path) -> str:
    """Who holds the lock file ``path``, into which DVC writes its process's number."""
    try:
        number = int(path.read_text("utf-8"))
        line = psutil.Process(number).cmdline()
    except (OSError, ValueError, psutil.Error):
        return "another `dvc` command"
    named = [Path(part).name if "/" in part else part for part in line]
    return f"`{' '.join(named[1:] if named[0].startswith('python') else named)}` (process {number})"
