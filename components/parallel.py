"""A pure function over batches in a pool of processes, results in order.

Not ``concurrent.futures``: its pool waits for ever when a worker dies in the middle of handing over a result
(Python 3.11), and a stage that is stopped kills its workers at any moment.  Here each worker has a pipe of its
own and one batch at a time, so a worker that dies is an end of file, and nothing is shared that it could hold.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing import connection
from typing import TypeVar

from components.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[list[Item]], list[Result]]


def workers() -> int:
    """As many as there are cores for us; not a parameter, since it changes no result."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def ordered(
    function: Function,
    batches: Iterable[list[Item]],
    *,
    lost: Callable[[Item], Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[list[Result]]:
    """``function`` of each batch, in order; a few batches are under way at a time.

    ``function`` must be picklable.  When a worker dies (a decoder crashed, the kernel was short of memory) its
    batch is done again with care, and ``lost(item)`` stands for an item on which a worker of its own dies too;
    without ``lost`` that is a UserError.  One batch, or one core, needs no pool.
    """
    rest = iter(batches)
    first = [batch for _, batch in zip(range(2), rest, strict=False)]
    everything = chain(first, rest)
    if len(first) < 2 or workers() == 1:
        yield from map(function, everything)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.images", *preload])
    pool: list[_Worker] = []
    try:
        pool.extend(_Worker(function) for _ in range(workers()))
        yield from _in_order(function, enumerate(everything), pool, lost)
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


class _Worker:
    """A process that applies ``function`` to what comes through its pipe."""

    def __init__(self, function: Function) -> None:
        # forkserver: the children come from a process without threads, so no lock is copied while it is held.
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.number = -1
        self.batch: list = []

    def give(self, number: int, batch: list[Item]) -> None:
        """Hand over a batch; a worker that is dead already is seen when its result is taken."""
        self.number, self.batch = number, batch
        try:
            self.pipe.send(batch)
        except OSError:
            self.process.kill()

    def take(self) -> list[Result]:
        """The result; EOFError when the worker died, or what ``function`` raised."""
        try:
            went_well, result = self.pipe.recv()
        except OSError:
            raise EOFError from None
        if not went_well:
            raise result
        return result

    def end(self) -> None:
        """Stop the process at once, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _in_order(
    function: Function, numbered: Iterator[tuple[int, list]], pool: list[_Worker], lost: Callable | None
) -> Iterator[list]:
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
        ready = connection.wait([worker.pipe for worker in busy]) if busy else []
        for worker in [each for each in busy if each.pipe in ready]:
            busy.remove(worker)
            try:
                done[worker.number] = worker.take()
            except EOFError:
                done[worker.number] = _with_care(function, worker.batch, lost)
                worker.end()
                pool.remove(worker)
                worker = _Worker(function)
                pool.append(worker)
            idle.append(worker)
        while wanted in done:
            yield done.pop(wanted)
            wanted += 1


def _with_care(function: Function, batch: list[Item], lost: Callable | None) -> list[Result]:
    """``function`` of ``batch`` in a worker of its own; if that one dies, each item in a worker of its own."""
    worker = _Worker(function)
    try:
        worker.give(0, batch)
        return worker.take()
    except EOFError:
        if len(batch) > 1:
            return [result for item in batch for result in _with_care(function, [item], lost)]
        if lost is None:
            raise UserError(
                "a worker process died while it read images (short of memory, perhaps): run the same command again"
            ) from None
        return [lost(batch[0])]
    finally:
        worker.end()


def _work(pipe: connection.Connection, function: Function) -> None:
    """What a worker does: leave Ctrl-C to the parent, answer every batch, and not outlive the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(batch)
        except Exception as error:  # raised again in the parent
            answer = False, error
        pipe.send(answer)


def _end_with_parent() -> None:
    # Not by the kernel's signal on the parent's death: to the kernel the fork server is the parent, and that one
    # lives as long as its children do.
    multiprocessing.parent_process().join()
    os._exit(1)
