"""What a run does when Prefect's server goes away: it goes on without it, and waits for nothing that it cannot tell.

Prefect asks a server that is gone for a minute each time, and again for each event that it holds when Python ends:
a run hung for half an hour.  No stage needs the server: DVC has what they make, and the gate's record is ours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from components.base.stopping import Stopped, stop
from flows.run import alive
from flows.workspace.paths import State

PATIENCE = 5.0
"""Seconds without anybody who listens at its address, after which Prefect's server counts as gone."""

_EVERY = 0.5  # seconds between two looks

LINE = ("Prefect's server has ended: the run goes on without it, and what it makes counts; Prefect's pages will not "
        "show how it ends")  # fmt: skip


def listens(url: str) -> bool:
    """Whether anybody listens at ``url``: a server that is only slow does."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=2):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:  # no answer in time, or no socket left here
        return True


class Watch:
    """Looks whether the server at ``url`` is there; ``gone`` once it was not for PATIENCE seconds.

    ``outcome`` is how the run's work has ended, whatever Prefect then makes of it.  A ``runner`` of Prefect's, which
    started this process, cancels it by way of Prefect's own handler of SIGTERM.
    """

    def __init__(self, url: str, say: Callable[[str], None], *, runner: bool) -> None:
        self.url, self.say, self.runner = url, say, runner
        self.gone = False
        self.outcome: Future[dict[str, Any]] = Future()
        self._working = alive.Working()
        self._since: float | None = None
        self._lock = threading.Lock()

    def look(self, *, patience: float = PATIENCE) -> None:
        """Look now, and stop asking the server when it has not been there for ``patience`` seconds."""
        with self._lock:
            if self.gone:
                return
            if listens(self.url):
                self._since = None
                return
            self._since = self._since or time.monotonic()
            self.gone = time.monotonic() - self._since >= patience
        if self.gone:
            forget()
            if not self.outcome.done():
                self.say(LINE)

    def take(self, state: State) -> None:
        """From here to the end of the process others can see that somebody works on the present flow run."""
        self._working.begin(state, lambda: not self.gone)

    def begin(self, state: State) -> None:
        """The work begins: SIGTERM stops it once, and a second one, sent to all processes, does not end the ending."""
        self.take(state)
        if not self.runner:  # Prefect has put its own handler there, which knows no second
            signal.signal(signal.SIGTERM, stop)

    def done(self, result: dict[str, Any]) -> None:
        """The work has ended well, with ``result``."""
        self.outcome.set_result(result)
        self._working.ended(None, result["did"])

    def ended(self, error: BaseException) -> None:
        """The work has ended with ``error``; one that was asked to stop waits for no server to come back."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self._working.ended(error)
        if not isinstance(error, Exception):
            self.look(patience=0)

    def result(self, flow: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``flow`` returns, or raises, also where Prefect cannot write it down because its server is gone."""
        try:
            return flow()
        except Exception:
            if not (self.gone and self.outcome.done()):
                raise
        return self.outcome.result()


@contextlib.contextmanager
def watched(say: Callable[[str], None], *, runner: bool = False) -> Iterator[Watch]:
    """Watch Prefect's server while the body runs, and have SIGTERM sent to this process when its parent dies."""
    watch = Watch(os.environ["PREFECT_API_URL"], say, runner=runner)
    over, parent = threading.Event(), os.getppid()

    def work() -> None:
        asked = False
        while not over.wait(_EVERY):
            watch.look()
            if os.getppid() != parent and not asked:
                asked = True
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work, name="watch Prefect", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join(timeout=5)


def asked(error: BaseException) -> BaseException:
    """The stop that ``error`` came of, as of one in the middle of DVC's locking; else ``error`` itself."""
    from prefect.exceptions import TerminationSignal

    kinds = (Stopped, TerminationSignal, KeyboardInterrupt)
    cause: BaseException | None = error
    for _ in range(20):  # causes may form a circle
        if cause is None or isinstance(cause, kinds):
            break
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, kinds) else error


def part(url: str) -> None:
    """Send the log lines and events that Prefect still holds, for some seconds; this process waits for none later."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    if listens(url):
        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=5)
    forget()


def forget() -> None:
    """Have Prefect ask its server once at most from here on, and not wait for it when Python ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    settings.client.max_retries = 0
    settings.logging.to_api.enabled = False
    # Else each batch of lines and each event that is not sent is an error in the terminal.
    logging.raiseExceptions = False
    settings.internal.logging_level = "CRITICAL"
    for worker in (APILogWorker, EventsWorker):  # what Python calls at its end: the first has no time limit
        for name in ("drain", "drain_all"):
            setattr(worker, name, lambda *_, **__: None)
