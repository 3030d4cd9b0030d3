"""Worker processes that apply a function to batches, each with a limit of memory and of time.

Not ``concurrent.futures``: its pool waits for ever when a worker dies while it sends a result (Python 3.11), and a
stage that is stopped kills its workers at any moment.  Here each worker has its own pipe and one batch at a time.  A
worker that dies closes its pipe, and shares nothing that it could leave locked.

The function never runs in the parent process: an image that crashes the decoder, never ends or needs too much memory
costs only itself.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from multiprocessing import connection
from typing import Any, Generic, TypeVar, cast

from components.base.errors import UserError
from components.base.processes import end_with_starter

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[list[Item]], list[Result]]


@dataclass(frozen=True)
class Loss:
    """Why an item has no result, in a few words, and whether the machine decided that and not the item.

    A crash and a limit of memory come from the item's bytes, whenever it is tried.  That a worker was killed or took
    too long comes from this machine at this moment: it must not be kept as a fact about the bytes.
    """

    why: str
    by_machine: bool


Lost = Callable[[Item, Loss], Result]
"""The result for an item that killed its worker, from the item and the loss."""

MEMORY = 4 * 2**30  # bytes a worker may take beyond what it has loaded; 50 million pixels take about one GiB
SECONDS = 30.0  # processor time for a batch, and for an item alone; one more for each item
BYTES_A_SECOND = 100_000.0  # and one more for each so many bytes
WAITING = 20.0  # times as long by the clock: a worker may wait without computing, or the machine is busy
TRIES = 2  # of an item alone, where the machine decided that it has no result
_NO_MEMORY = Loss(f"out of memory: more than {MEMORY / 2**30:.0f} GiB", by_machine=False)
_KILLED = Loss("its decoder was killed: the machine was out of memory, or somebody stopped it", by_machine=True)
_STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)  # the first by the kernel too


def ordered(
    function: Function[Item, Result],
    batches: Iterable[list[Item]],
    *,
    count: int,
    lost: Lost[Item, Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[list[Result]]:
    """``function`` of each batch, in order, from at most ``count`` workers (see `parallel.ordered`)."""
    rest = iter(batches)
    first = [batch for _, batch in zip(range(count), rest, strict=False)]
    if not first:
        return
    _prepare(preload)
    pool: list[_Worker[Item, Result]] = []
    try:
        pool.extend(_Worker(function, preload) for _ in first)
        yield from _in_order(enumerate(chain(first, rest)), pool, lost)
    finally:
        for worker in pool:
            worker.end()


class LimitedWorker(Generic[Item, Result]):
    """One worker that is replaced when it dies: for an engine that has its own pool, such as Ray."""

    def __init__(
        self, function: Function[Item, Result], *, lost: Lost[Item, Result] | None, preload: Sequence[str] = ()
    ) -> None:
        _prepare(preload)
        self._worker, self._lost = _Worker(function, preload), lost

    def __call__(self, batch: list[Item]) -> list[Result]:
        """The results of ``batch``, with ``lost`` for the items that kill a worker."""
        self._worker.give(0, batch)
        try:
            return self._worker.take()
        except _WorkerDied:
            self._worker.end()
            results, self._worker = _one_by_one(self._worker, self._lost)
            return results

    def end(self) -> None:
        """Stop the process."""
        self._worker.end()


def _prepare(preload: Sequence[str]) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["components.decode.images", *preload])


class _Worker(Generic[Item, Result]):
    """A process that applies ``function`` to the batches that come through its pipe."""

    def __init__(self, function: Function[Item, Result], preload: Sequence[str]) -> None:
        self._made_of = function, preload
        # forkserver: the workers come from a process without threads, so none starts with a lock that is held.
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function, tuple(preload), MEMORY), daemon=True)
        self.process.start()
        theirs.close()
        self.number = -1
        self.batch: list[Item] = []
        self.until = math.inf  # by time.monotonic()
        self._late = False

    def another(self) -> _Worker[Item, Result]:
        """A new worker with the same function."""
        return _Worker(*self._made_of)

    def give(self, number: int, batch: list[Item]) -> None:
        """Send a batch; `take` finds out whether the worker had died before."""
        seconds = allowed(batch)
        self.number, self.batch, self.until = number, batch, time.monotonic() + WAITING * seconds
        try:
            self.pipe.send((seconds, batch))
        except OSError:
            self.process.kill()

    def take(self) -> list[Result]:
        """The result; _WorkerDied when the worker died or ran out of memory, else whatever ``function`` raised."""
        if not self.pipe.poll(max(0.0, self.until - time.monotonic())):
            self._late = True
            self.process.kill()
        try:
            went_well, result = self.pipe.recv()
        except (EOFError, OSError):
            raise _WorkerDied(self._why()) from None
        if went_well:
            return cast(list[Result], result)
        if isinstance(result, MemoryError):
            raise _WorkerDied(_NO_MEMORY)
        raise result

    def _why(self) -> Loss:
        self.process.join(10)
        code = self.process.exitcode
        if self._late or code == -signal.SIGXCPU:
            return Loss(f"out of time: more than {allowed(self.batch):.0f} seconds", by_machine=True)
        if code is not None and -code in _STOPS:
            return _KILLED
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return Loss(f"the decoder crashed ({name})", by_machine=False)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _WorkerDied(Exception):
    """A worker died or ran out of memory: ``loss`` says of what."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.why)
        self.loss = loss


def allowed(batch: Sequence[object]) -> float:
    """The seconds of processor time that a worker has for ``batch``."""
    size = sum(len(item[0]) for item in batch if isinstance(item, tuple) and isinstance(item[0], bytes))
    return SECONDS + len(batch) + size / BYTES_A_SECOND


def _in_order(
    numbered: Iterator[tuple[int, list[Item]]],
    pool: list[_Worker[Item, Result]],
    lost: Lost[Item, Result] | None,
) -> Iterator[list[Result]]:
    idle = list(pool)
    busy: list[_Worker[Item, Result]] = []
    done: dict[int, list[Result]] = {}
    wanted = 0
    more = True
    while more or busy:
        while more and idle and len(done) + len(busy) <= 3 * len(pool):
            following = next(numbered, None)
            if following is None:
                more = False
            else:
                busy.append(idle.pop())
                busy[-1].give(*following)
        for worker in _ready(busy):
            busy.remove(worker)
            try:
                done[worker.number] = worker.take()
                idle.append(worker)
            except _WorkerDied:
                pool.remove(worker)
                worker.end()
                done[worker.number], living = _one_by_one(worker, lost)
                pool.append(living)
                idle.append(living)
        while wanted in done:
            yield done.pop(wanted)
            wanted += 1


def _ready(busy: list[_Worker[Item, Result]]) -> list[_Worker[Item, Result]]:
    """Wait for a worker that has answered, died or taken too long; all that have."""
    if not busy:
        return []
    patience = max(0.0, min(worker.until for worker in busy) - time.monotonic())
    ready = connection.wait([worker.pipe for worker in busy], patience)
    return [worker for worker in busy if worker.pipe in ready or worker.until <= time.monotonic()]


def _one_by_one(
    dead: _Worker[Item, Result], lost: Lost[Item, Result] | None
) -> tuple[list[Result], _Worker[Item, Result]]:
    """The results of the batch on which ``dead`` died, each item alone, and a worker that lives."""
    worker = dead.another()
    results: list[Result] = []
    for item in dead.batch:
        for tries in range(1, TRIES + 1):
            worker.give(-1, [item])
            try:
                results.extend(worker.take())
                break
            except _WorkerDied as death:
                worker.end()
                worker = worker.another()
                if death.loss.by_machine and tries < TRIES:
                    continue
                if lost is None:
                    worker.end()
                    raise failure(death.loss) from None
                results.append(lost(item, death.loss))
                break
            except BaseException:
                worker.end()
                raise
    return results, worker


def failure(loss: Loss) -> UserError:
    """The error of a stage that has no use for what it knows of the other items."""
    return UserError(f"a worker process died while it read images ({loss.why}): run the same command again")


def _work(
    pipe: connection.Connection[Any, Any], function: Function[Item, Result], preload: Sequence[str], memory: int
) -> None:
    """Main function of a worker: leave Ctrl-C to the parent, answer every batch, end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_starter()
    for name in preload:
        importlib.import_module(name)
    _limit_memory(memory)
    while True:
        try:
            seconds, batch = pipe.recv()
        except EOFError:
            return
        # The kernel counts from the start of the process, and in whole seconds.
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds))
        try:
            pipe.send((True, function(batch)))
        except Exception as error:  # raised again in the parent
            pipe.send((False, error))


def _limit_memory(allowance: int) -> None:
    """Let this process have ``allowance`` bytes more than it has now (Linux: elsewhere the limit does nothing)."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm", encoding="ascii") as stream:
        pages = int(stream.read().split()[5])  # data and stack
    _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + allowance)


def _limit(what: int, value: int) -> None:
    most = resource.getrlimit(what)[1]
    resource.setrlimit(what, (value if most == resource.RLIM_INFINITY else min(value, most), most))
