"""Many URLs at once: a few connections to each host, all hosts in turn, failures tried again after a while."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from components.collect.web.client import PER_HOST
from components.collect.web.failure import FetchError
from components.collect.web.fetch import LONGEST_WAIT, Fetcher, Image
from components.collect.web.url import Url

AT_ONCE = 32  # URLs being fetched
MUTE = 8  # connections in a row that fail before a host is left alone until the next look


@dataclass(slots=True)
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
    asked_for_less: int = 0
    """How often in a row it said 429 after it had rested."""
    closed: FetchError | None = None
    """Why nothing more is asked of it."""


class Download:
    """Fetches tasks, so many at once, and hands their results to whoever iterates over them."""

    def __init__(
        self, fetcher: Fetcher, tasks: Iterable[Task], *, attempts: int,
        pause: Callable[[int], float] = lambda failed: 2.0**failed,
        longest_wait: float = LONGEST_WAIT, at_once: int = AT_ONCE,
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
        self._at_once = at_once
        self._running: dict[asyncio.Task[Image], Task] = {}

    async def results(self) -> AsyncGenerator[tuple[Task, Image | FetchError], None]:
        """Each task once, with its image or the reason why there is none, in the order in which they finish."""
        try:
            while self._left:
                for early in self._start():
                    yield early
                for finished in await self._finished():
                    task = self._running.pop(finished)
                    try:
                        result: Image | FetchError = finished.result()
                    except FetchError as error:
                        result = error
                    for late in self._settle(task, result):
                        yield late
        finally:
            for each in self._running:
                each.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _finished(self) -> Collection[asyncio.Task[Image]]:
        """Those of the running ones that are done, or none when something else can be handed out first."""
        if not self._running:
            await asyncio.sleep(self._patience() or 0.0)
            return ()
        done, _ = await asyncio.wait(self._running, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED)
        return done

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
        while len(self._running) < self._at_once and self._line:
            host = self._line.popleft()
            host.waiting = False
            if host.closed:
                while host.tasks:
                    self._left -= 1
                    yield host.tasks.popleft(), host.closed
            elif (free := max(host.rests_until, self._fetcher.free(host.name))) > now:
                host.waiting = True
                heapq.heappush(self._later, (free, next(self._count), host, None))
            else:
                task = host.tasks.popleft()
                fetching = self._fetcher.fetch(task.url, last=not host.tasks)
                self._running[asyncio.create_task(fetching)] = task
                host.busy += 1
                self._stand_in_line(host)

    def _settle(self, task: Task, result: Image | FetchError) -> Iterator[tuple[Task, Image | FetchError]]:
        """Take in one result: it is final, or its task is tried again later."""
        host = self._host(task)
        host.busy -= 1
        if isinstance(result, FetchError) and result.reason in ("unreachable", "unresolved"):
            host.mute += 1
            if host.mute >= MUTE:
                host.closed = FetchError(result.reason, f"its host did not answer {MUTE} times in a row")
        else:
            host.mute = 0
        if isinstance(result, Image):
            host.asked_for_less = 0
        if isinstance(result, FetchError) and self._try_again(host, task, result):
            self._stand_in_line(host)
            return
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
        elif error.reason == "rate_limited" and now >= host.rests_until:  # else it had no time to rest
            host.rests_until = now + self._pause(host.asked_for_less)
            host.asked_for_less += 1
            if host.asked_for_less >= MUTE:
                host.closed = FetchError(error.reason, f"its host asked for fewer requests {MUTE} times in a row")
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
        full = len(self._running) >= self._at_once
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later and not full else None
