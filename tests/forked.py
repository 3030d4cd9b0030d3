"""Processes forked from a test, which has torch loaded already."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

from components.train.distributed.ranks import Group


class Forked:
    """What :mod:`components.train.distributed.ranks` needs of a Popen, for a process that runs ``work`` and is gone."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code: object = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            work()
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code if isinstance(code, int) else 1)

    def wait(self, timeout: float | None = None) -> int | None:
        end = time.monotonic() + (timeout or 200)
        while self.poll() is None:
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.002)
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def import_sharding() -> None:
    """What a sharded network imports when it is made, 1.4 s of a processor, so that no fork has to."""
    for name in ("torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp"):
        importlib.import_module(name)


def in_pairs(work: Callable[[Group], object], folder: Path) -> None:
    """Have two processes do ``work``, each as a rank of one group that meets in ``folder``; both end well."""

    def rank(number: int) -> None:
        torch.set_num_threads(1)
        store = distributed.FileStore(str(folder / "store"), 2)
        distributed.init_process_group("gloo", store=store, rank=number, world_size=2)
        work(Group(number, 2, torch.device("cpu")))
        distributed.destroy_process_group()

    import_sharding()
    (folder / "store").unlink(missing_ok=True)
    pair = [Forked(functools.partial(rank, number)) for number in range(2)]
    assert [each.wait(60) for each in pair] == [0, 0]
