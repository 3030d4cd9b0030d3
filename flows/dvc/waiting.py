"""Wait while a `dvc` command by hand works in the checkout; the checkout's own lock is taken before."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

Result = TypeVar("Result")
_PAUSE = 0.2  # seconds between two tries
_LONGEST = 60  # characters of a command line that are shown


def wait_for_lock(repo: Any, *, say: Callable[[str], None]) -> None:
    """Have ``repo`` wait for DVC's lock without end, where DVC gives up after three seconds; say once who has it."""
    from dvc.lock import Lock, LockError

    lock = repo.lock
    if not isinstance(lock, Lock):  # hardlink_lock is set: it waits by itself, and does not know who has it
        lock._wait = True
        return
    say = _once(say)

    def take() -> None:
        while True:
            try:
                lock._do_lock()
                return
            except LockError:
                say(_waiting_for(_written(Path(lock.lockfile))))
                time.sleep(_PAUSE)

    lock.lock = take


def patiently(work: Callable[[], Result], *, say: Callable[[str], None]) -> Result:
    """``work``; where another `dvc` command's stage uses the same files, again when they are free.

    DVC finds out before it starts the stage: what it has not begun can be asked for again.
    """
    from dvc.exceptions import ReproductionError
    from dvc.lock import LockError

    say = _once(say)
    while True:
        try:
            return work()
        except (LockError, ReproductionError) as error:
            busy = error.__cause__ if isinstance(error, ReproductionError) else error
            if not isinstance(busy, LockError):
                raise
            found = re.search(r"\(PID (\d+)\)", str(busy))
            say(_waiting_for(found[1] if found else ""))
            time.sleep(_PAUSE)


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return once


def _written(path: Path) -> str:
    """The number of its process, which DVC writes into its lock file ``path``."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def _waiting_for(number: str) -> str:
    try:
        line = psutil.Process(int(number)).cmdline()
        named = [Path(part).name if part.startswith("/") else part for part in line]
        words = " ".join(named[1:] if named[0].startswith("python") else named)
        who = f"`{words[:_LONGEST]}` (process {number})"
    except (ValueError, IndexError, psutil.Error):
        who = "another `dvc` command"
    return f"waiting for {who}, which is running in this checkout"
