"""A pure function over batches in a pool of processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
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

    ``function`` must be picklable.  When a worker dies (a decoder crashed, the kernel was short of memory) the
    batches under way are done again with care, and ``lost(item)`` stands for an item on which a worker of its own
    dies too; without ``lost`` that is a UserError.  One batch, or one core, needs no pool.
    """
    rest = iter(batches)
    first = [batch for _, batch in zip(range(2), rest, strict=False)]
    everything = chain(first, rest)
    if len(first) < 2 or workers() == 1:
        yield from map(function, everything)
        return
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    pool = _pool(workers(), preload)
    try:
        for batch in everything:
            try:
                future = pool.submit(function, batch)
            except BrokenProcessPool as error:
                future = Future()
                future.set_exception(error)
            waiting.append((batch, future))
            if len(waiting) <= 3 * workers():
                continue
            if waiting[0][1].exception() is None:
                yield waiting.popleft()[1].result()
                continue
            yield from _finish(function, waiting, lost)
            _end(pool)
            pool = _pool(workers(), preload)
        yield from _finish(function, waiting, lost)
    finally:
        _end(pool)


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


def _finish(function: Function, waiting: deque, lost: Callable | None) -> Iterator[list]:
    """The results of all that is under way; what a dead worker took with it is done again."""
    while waiting:
        batch, future = waiting.popleft()
        try:
            yield future.result()
        except BrokenProcessPool:
            yield _with_care(function, batch, lost)


def _with_care(function: Function, batch: list[Item], lost: Callable | None) -> list[Result]:
    """``function`` of ``batch`` in a worker of its own; if that one dies, each item in a worker of its own."""
    pool = _pool(1, ())
    try:
        return pool.submit(function, batch).result()
    except BrokenProcessPool:
        if len(batch) > 1:
            return [result for item in batch for result in _with_care(function, [item], lost)]
        if lost is None:
            raise UserError(
                "a worker process died while it read images (short of memory, perhaps): run the same command again"
            ) from None
        return [lost(batch[0])]
    finally:
        _end(pool)


def _pool(count: int, preload: Sequence[str]) -> ProcessPoolExecutor:
    # forkserver: the children come from a process without threads, so no lock is copied while it is held.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.images", *preload])
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin)


def _begin() -> None:
    """In each worker: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Not by the kernel's signal on the parent's death: to the kernel the fork server is the parent, and that one
    # lives as long as its children do.
    multiprocessing.parent_process().join()
    os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop the workers at once, whatever they do: on an error nobody wants their results."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
