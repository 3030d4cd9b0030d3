"""End the stages that this process has started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import psutil

from components.base.stopping import Stopped, ignore_signals, stop

PATIENCE = 15.0
"""Seconds that a stage has to save what it can, after SIGTERM and before SIGKILL."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into Stopped, the stage that runs having been ended first; further ones are ignored."""
    before = signal.signal(signal.SIGTERM, stop)
    stopping = False
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:
        stopping = True
        ignore_signals()  # once more: what ran inside may have put a handler of its own back
        end_children()
        # SIGTERM may have come while a Ctrl-C was unwinding: the first one counts.
        first = error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else error
        raise (first if isinstance(first, Stopped) else Stopped(signal.SIGINT)) from None
    except BaseException:
        end_children()
        raise
    finally:
        if not stopping:  # the command ends as it was told to, whatever arrives until then
            signal.signal(signal.SIGTERM, before)


def end_children() -> None:
    """Send SIGTERM to every stage that runs below this process, wait, and kill those that stay.

    Servers that Prefect or MLflow started are left alone: they have their own way to end.
    """
    stages = [child for child in psutil.Process().children(recursive=True) if _is_stage(child)]
    for child in stages:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(stages, timeout=PATIENCE)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _is_stage(child: psutil.Process) -> bool:
    try:
        module = child.cmdline()[1:3]
        if module == ["-m", "components.forking"]:  # else it is the one that forks
            return psutil.Process(child.ppid()).cmdline()[1:3] == module
        return module == ["-m", "components"]
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
