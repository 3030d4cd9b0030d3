"""A pure function over batches in a pool of processes, results in order.

Not ``concurrent.futures``: its pool waits for ever when a worker dies in the middle of handing over a result
(Python 3.11), and a stage that is stopped kills its workers at any moment.  Here each worker has a pipe of its
own and one batch at a time, so a worker that dies is an end of file, and nothing is shared that it could hold.

What a worker does is limited in memory and in time, and it is never done in this process: a decoder that crashes,
runs for ever or wants all memory costs the image that it was given.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing import connection
from typing import TypeVar

from components.base.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[list[Item]], list[Result]]

ENGINE, ADDRESS = "STILLROOM_ENGINE", "STILLROOM_RAY_ADDRESS"
"""Environment: the engine (local or ray), and for ray which cluster.  No parameters: they change no result."""

MEMORY = 4 * 2**30  # bytes that a worker may take on top of what it has loaded; 50 million pixels take about one GiB
SECONDS = 30.0  # of processor time for a batch, and for an item alone; one more for each item
BYTES_A_SECOND = 100_000.0  # and one more for each so many bytes
WAITING = 20.0  # times as long by the clock, for a worker that waits and does nothing, or on a busy machine
_NO_MEMORY = f"out of memory: more than {MEMORY / 2**30:.0f} GiB"


def workers() -> int:
    """As many as there are cores for us; not a parameter, since it changes no result."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def engine() -> str:
    """``local`` or ``ray``."""
    found = os.environ.get(ENGINE) or "local"
    if found not in ("local", "ray"):
        raise UserError(f"{ENGINE}={found}: not an engine (they are local and ray)")
    return found


def ordered(
    function: Function,
    batches: Iterable[list[Item]],
    *,
    lost: Callable[[Item, str], Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[list[Result]]:
    """``function`` of each batch, in order, in processes of their own; a few batches are under way at a time.

    ``function`` must be picklable.  When a worker dies (a decoder crashed, or a limit was reached) each item of its
    batch is done again by itself, and ``lost(item, why)`` stands for one that is the death of a worker again, with
    ``why`` beginning 'out of time', 'out of memory' or 'the decoder crashed'; without ``lost`` that is a UserError.
    """
    if engine() == "ray":
        from components.base import on_ray

        yield from on_ray.ordered(function, batches, lost=lost, preload=preload)
        return
    rest = iter(batches)
    first = [batch for _, batch in zip(range(workers()), rest, strict=False)]
    if not first:
        return
    _prepare(preload)
    pool: list[_Worker] = []
    try:
        pool.extend(_Worker(function, preload) for _ in first)
        yield from _in_order(enumerate(chain(first, rest)), pool, lost)
    finally:
        for worker in pool:
            worker.end()


def batched(items: Iterable[tuple[bytes, str]], *, count: int = 64, size: int = 8 * 2**20) -> Iterator[list]:
    """``items`` (bytes, anything) in lists of at most ``count``, each of about ``size`` bytes at most."""
    batch: list[tuple[bytes, str]] = []
    held = 0
    for item in items:
        batch.append(item)
        held += len(item[0])
        if len(batch) >= count or held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


class Careful:
    """``function`` in one limited process that is replaced when it dies: for an engine that has a pool of its own."""

    def __init__(self, function: Function, *, lost: Callable | None, preload: Sequence[str] = ()) -> None:
        _prepare(preload)
        self._worker, self._lost = _Worker(function, preload), lost

    def __call__(self, batch: list[Item]) -> list[Result]:
        """The results of ``batch``, with ``lost`` for the items that are the death of a process."""
        self._worker.give(0, batch)
        try:
            return self._worker.take()
        except _Lost as loss:
            self._worker.end()
            results, self._worker = _one_by_one(self._worker, loss, self._lost)
            return results

    def end(self) -> None:
        """Stop the process."""
        self._worker.end()


def _prepare(preload: Sequence[str]) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["components.decode.images", *preload])


class _Worker:
    """A process that applies ``function`` to what comes through its pipe."""

    def __init__(self, function: Function, preload: Sequence[str]) -> None:
        self._made_of = function, preload
        # forkserver: the children come from a process without threads, so no lock is copied while it is held.
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function, tuple(preload), MEMORY), daemon=True)
        self.process.start()
        theirs.close()
        self.number = -1
        self.batch: list = []
        self.until = math.inf  # by time.monotonic()
        self._late = False

    def another(self) -> _Worker:
        """A fresh one for the same work."""
        return _Worker(*self._made_of)

    def give(self, number: int, batch: list[Item]) -> None:
        """Hand over a batch; a worker that is dead already is seen when its result is taken."""
        seconds = allowed(batch)
        self.number, self.batch, self.until = number, batch, time.monotonic() + WAITING * seconds
        try:
            self.pipe.send((seconds, batch))
        except OSError:
            self.process.kill()

    def take(self) -> list[Result]:
        """The result; _Lost when the worker died or had no memory, or what ``function`` raised."""
        if not self.pipe.poll(max(0.0, self.until - time.monotonic())):
            self._late = True
            self.process.kill()
        try:
            went_well, result = self.pipe.recv()
        except (EOFError, OSError):
            raise _Lost(self._why()) from None
        if went_well:
            return result
        if isinstance(result, MemoryError):
            raise _Lost(_NO_MEMORY)
        raise result

    def _why(self) -> str:
        self.process.join(10)
        code = self.process.exitcode
        if self._late or code == -signal.SIGXCPU:
            return f"out of time: more than {allowed(self.batch):.0f} seconds"
        if code == -signal.SIGKILL:  # that was the kernel, short of memory
            return _NO_MEMORY
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return f"the decoder crashed ({name})"

    def end(self) -> None:
        """Stop the process at once, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Lost(Exception):
    """A worker died, or could have: the message says of what."""


def allowed(batch: Sequence[Item]) -> float:
    """The seconds of processor time that a worker has for ``batch``."""
    size = sum(len(item[0]) for item in batch if isinstance(item, tuple) and isinstance(item[0], bytes))
    return SECONDS + len(batch) + size / BYTES_A_SECOND


def _in_order(numbered: Iterator[tuple[int, list]], pool: list[_Worker], lost: Callable | None) -> Iterator[list]:
    idle, busy = list(pool), []
    done: dict[int, list] = {}
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
            except _Lost as loss:
                pool.remove(worker)
                worker.end()
                done[worker.number], worker = _one_by_one(worker, loss, lost)
                pool.append(worker)
            idle.append(worker)
        while wanted in done:
            yield done.pop(wanted)
            wanted += 1


def _ready(busy: list[_Worker]) -> list[_Worker]:
    """Those that have answered, died or taken too long; waits for one."""
    if not busy:
        return []
    patience = max(0.0, min(worker.until for worker in busy) - time.monotonic())
    ready = connection.wait([worker.pipe for worker in busy], patience)
    return [worker for worker in busy if worker.pipe in ready or worker.until <= time.monotonic()]


def _one_by_one(worker: _Worker, loss: _Lost, lost: Callable | None) -> tuple[list[Result], _Worker]:
    """The results of the batch on which ``worker`` died, each item alone, and a worker that lives."""
    batch, worker, results = worker.batch, worker.another(), []
    for item in batch:
        worker.give(-1, [item])
        try:
            results.extend(worker.take())
        except _Lost as again:
            worker.end()
            if lost is None:
                raise UserError(
                    f"a worker process died while it read images ({again}): run the same command again"
                ) from None
            worker = worker.another()
            results.append(lost(item, str(again)))
        except BaseException:
            worker.end()
            raise
    return results, worker


def _work(pipe: connection.Connection, function: Function, preload: Sequence[str], memory: int) -> None:
    """What a worker does: leave Ctrl-C to the parent, answer every batch, and not outlive the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
            answer = True, function(batch)
        except Exception as error:  # raised again in the parent
            answer = False, error
        pipe.send(answer)


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


def _end_with_parent() -> None:
    # Not by the kernel's signal on the parent's death: to the kernel the fork server is the parent, and that one
    # lives as long as its children do.
    multiprocessing.parent_process().join()
    os._exit(1)
