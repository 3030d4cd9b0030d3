"""End a stage with the run that started it, however that ended.

The kernel tells a process only of the death of its parent (processes.die_with_parent), and between a run and its stage
stands the shell that DVC starts, which outlives the run.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time

VARIABLE = "STILLROOM_STARTER"
"""Environment of a stage: the number of the process that has DVC run it."""


def end_with_run() -> None:
    """Send SIGTERM to this process once the one that VARIABLE names is gone; nothing where it names none."""
    number = os.environ.get(VARIABLE, "")
    if number.isdecimal():
        threading.Thread(target=_watch, args=(int(number),), name="watch the run", daemon=True).start()


def _watch(number: int) -> None:
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # not Linux, or an old one
        while _there(number):
            time.sleep(1.0)
    else:
        select.select([handle], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def _there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
