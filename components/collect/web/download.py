"""Many URLs at once: a few connections to each host, all hosts in turn, failures tried again after a while."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from components.collect.web.exchange import PER_HOST
from components.collect.web.fetch import Fetcher
from components.collect.web.url import Url
from components.collect.web.wire import FetchError

THREADS = 32  # fetching at once; they wait for the network and hardly compute
MUTE = 8  # connections in a row that fail before a host is left alone until the next look
LONGEST_WAIT = 120.0  # seconds of Retry-After; who asks for more is left alone until the next look


@dataclass
class Task:
    """A URL to be fetched, and how often that failed already."""

    key: str
    url: Url
    failed: int = 0


@dataclass
class _Host:
    name: str
    tasks: deque[Task] = field(default_factory=deque)
    busy: int = 0
    rests_until: float = 0.0
    waiting: bool = False
    """Whether it stands in the line of hosts, or among those that wait for a moment."""
    mute: int = 0
    """Connections in a row that did not come about."""
    closed: FetchError | None = None
    """Why nothing more is asked of it."""


class Download:
    """Hands tasks to threads, and their results to whoever iterates over it."""

    def __init__(
        self, fetcher: Fetcher, tasks: Iterable[Task], *, attempts: int,
        pause: Callable[[int], float] = lambda failed: 2.0**failed,
        longest_wait: float = LONGEST_WAIT, threads: int = THREADS,
    ) -> None:  # fmt: skip
        self._fetcher, self._attempts = fetcher, attempts
        self._pause, self._longest_wait = pause, longest_wait
        self._hosts: dict[str, _Host] = {}
        self._line: deque[_Host] = deque()
        self._later: list[tuple[float, int, _Host, Task | None]] = []
        self._count = itertools.count()
        self._left = 0
        for task in tasks:
            self._add(self._host(task), task)
            self._left += 1
        self._free = min(threads, self._left)
        self._threads = self._free
        self._todo: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Task, bytes | BaseException]] = queue.SimpleQueue()

    def __iter__(self) -> Generator[tuple[Task, bytes | FetchError], None, None]:
        """Each task once, with its image or the reason why there is none, in the order in which they finish."""
        for _ in range(self._threads):
            # Daemons: a thread that waits for a slow server does not hold up the end of the program.
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while self._left:
                yield from self._start()
                if not self._left:
                    return
                with contextlib.suppress(queue.Empty):
                    yield from self._settle(*self._done.get(timeout=self._patience()))
        finally:
            for _ in range(self._threads):
                self._todo.put(None)

    def _work(self) -> None:
        while (task := self._todo.get()) is not None:
            try:
                result: bytes | BaseException = self._fetcher.fetch(task.url)
            except BaseException as error:
                result = error
            self._done.put((task, result))

    def _start(self) -> Iterator[tuple[Task, FetchError]]:
        """Hand out what may be fetched now; what its host asked not to be asked for comes back at once."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, _, host, task = heapq.heappop(self._later)
            if task is None:
                host.waiting = False
                self._stand_in_line(host)
            else:
                self._add(host, task)
        while self._free and self._line:
            host = self._line.popleft()
            host.waiting = False
            if host.closed:
                while host.tasks:
                    self._left -= 1
                    yield host.tasks.popleft(), host.closed
            elif host.rests_until > now:
                host.waiting = True
                heapq.heappush(self._later, (host.rests_until, next(self._count), host, None))
            else:
                self._todo.put(host.tasks.popleft())
                self._free -= 1
                host.busy += 1
                self._stand_in_line(host)

    def _settle(self, task: Task, result: bytes | BaseException) -> Iterator[tuple[Task, bytes | FetchError]]:
        """Take in one result: it is final, or its task is tried again later."""
        host = self._host(task)
        self._free += 1
        host.busy -= 1
        if isinstance(result, FetchError) and result.reason in ("unreachable", "unresolved"):
            host.mute += 1
            if host.mute >= MUTE:
                host.closed = FetchError(result.reason, f"its host did not answer {MUTE} times in a row")
        else:
            host.mute = 0
        if isinstance(result, FetchError):
            if self._try_again(host, task, result):
                self._stand_in_line(host)
                return
        elif isinstance(result, BaseException):
            raise result
        self._left -= 1
        self._stand_in_line(host)
        if isinstance(result, FetchError) and task.failed > 1:
            result = FetchError(result.reason, f"{result.detail}, {task.failed} times")
        yield task, result

    def _try_again(self, host: _Host, task: Task, error: FetchError) -> bool:
        """Whether ``task`` will be tried again, and its host left alone as long as it asked."""
        now = time.monotonic()
        task.failed += 1
        if error.wait is not None:
            if error.wait > self._longest_wait:
                host.closed = FetchError(error.reason, f"{error.detail}: its server asks to come back much later")
                return False
            host.rests_until = max(host.rests_until, now + error.wait)
        if host.closed or not error.again or task.failed >= self._attempts:
            return False
        moment = max(host.rests_until, now + self._pause(task.failed - 1))
        heapq.heappush(self._later, (moment, next(self._count), host, task))
        return True

    def _host(self, task: Task) -> _Host:
        return self._hosts.setdefault(task.url.host, _Host(task.url.host))

    def _add(self, host: _Host, task: Task) -> None:
        host.tasks.append(task)
        self._stand_in_line(host)

    def _stand_in_line(self, host: _Host) -> None:
        if host.tasks and not host.waiting and host.busy < PER_HOST:
            host.waiting = True
            self._line.append(host)

    def _patience(self) -> float | None:
        """Seconds until something can be handed out again without any result; None when nothing waits for that."""
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later and self._free else None
