"""End this process in order when the worker that started it is gone, however it went and however far above it is."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import psutil

_EVERY = 0.5  # seconds between two looks


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Send SIGTERM to this process once one of those that lead up to the worker, or to a terminal, is gone."""
    over, above = threading.Event(), _above()

    def watch() -> None:
        while not over.wait(_EVERY):
            if not all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in above):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, name="watch the worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _above() -> list[psutil.Process]:
    """The processes from the parent up to the one that is `prefect worker`; the parent alone where there is none."""
    found = psutil.Process().parents()
    for at, process in enumerate(found):
        with contextlib.suppress(psutil.Error):
            if {"prefect", "worker"} <= {word.rpartition("/")[2] for word in process.cmdline()}:
                return found[: at + 1]
    return found[:1]
