"""End the stages that this process has started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import psutil

from flows.workspace.exits import Stopped

PATIENCE = 15.0
"""Seconds that a stage has to save what it can, after SIGTERM and before SIGKILL."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into Stopped, the stage that runs having been ended first."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt:
        end_children()
        raise Stopped(signal.SIGINT) from None
    except BaseException:
        end_children()
        raise
    finally:
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


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _is_stage(child: psutil.Process) -> bool:
    try:
        return child.cmdline()[1:3] == ["-m", "components"]
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
