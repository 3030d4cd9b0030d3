"""A stage as a process, and those that it starts: none of them outlives its parent."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, get_context

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Ask the kernel for signal ``number`` when the parent dies: DVC does not stop its stages (Linux only).

    ``parent`` is the process that started this one; give it when that process may have died already.
    """
    if sys.platform == "linux":
        parent = os.getppid() if parent is None else parent
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died before the request was in place
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage inside, and never look at what is there at the end: for imports, which make none.

    torch's modules are some hundred thousand objects, and each full collection would walk them in vain
    (`python benchmarks/imports.py`).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_ahead(modules: Sequence[str]) -> None:
    """Have the process that the workers of :func:`pool` are forked from import ``modules``, from now on."""
    get_context("forkserver").set_forkserver_preload(list(modules))
    forkserver.ensure_running()


@contextlib.contextmanager
def pool(
    workers: int, start: Callable[..., None], *arguments: object, preload: Sequence[str] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Processes that call ``start(*arguments)`` once; on an exception they are ended at once.

    They are forks of one fresh process that imports the module of ``start`` and the modules ``preload`` once for all of
    them (:func:`import_ahead`).
    """
    context = get_context("forkserver")
    import_ahead([start.__module__, *preload])
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(start, arguments)) as executor:
        try:
            yield executor
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def end_with_starter() -> None:
    """Have this worker end when the process ends that asked for it.

    Not by the kernel's signal on the parent's death: for the kernel the fork server is the parent, and that one lives
    as long as its children do.
    """

    def watch() -> None:
        starter = multiprocessing.parent_process()
        if starter is not None:
            starter.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _begin(start: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group: the parent handles it
    end_with_starter()
    start(*arguments)
