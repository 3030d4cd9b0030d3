"""A pure function over batches in a pool of processes, results in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import TypeVar

from components.errors import UserError

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def workers() -> int:
    """As many as there are cores for us; not a parameter, since it changes no result."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def ordered(
    function: Callable[[Batch], Result], batches: Iterable[Batch], *, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """``function`` of each batch, in order; a few batches are under way at a time.

    ``function`` must be picklable.  One batch, or one core, needs no pool.  A worker that dies (a decoder that
    crashes, the kernel short of memory) ends in a UserError, never in a wait without end.
    """
    rest = iter(batches)
    first = [batch for _, batch in zip(range(2), rest, strict=False)]
    everything = chain(first, rest)
    if len(first) < 2 or workers() == 1:
        yield from map(function, everything)
        return
    # forkserver: the children come from a process without threads, so no lock is copied while it is held.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.images", *preload])
    pool = ProcessPoolExecutor(workers(), mp_context=context, initializer=_begin)
    waiting: deque[Future[Result]] = deque()
    try:
        for batch in everything:
            waiting.append(pool.submit(function, batch))
            if len(waiting) > 3 * workers():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died while it read images (short of memory, perhaps): run the same command again"
        ) from None
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


def _begin() -> None:
    """In each worker: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        # The parent here is the fork server, which ends when the stage does.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop the workers at once, whatever they do: on an error nobody wants their results."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
