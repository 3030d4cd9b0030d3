"""The processes (ranks) that train together: started here, or joined when torchrun has started them already.

Each rank works on one thread (CPU) or one device (CUDA).  Without torchrun, this process is rank 0 and starts the
others; they find each other through a file in the scratch folder, communicate over loopback and, on the CPU under
Linux, add up gradients in shared memory.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

import components
from components.base import files
from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.train.distributed import shared

_log = logging.getLogger(__name__)

_TIMEOUT = datetime.timedelta(minutes=5)
OUT_OF_MEMORY = 3
"""Exit code of a rank whose device has no memory left."""

_EVERY, _GRACE = 1.0, 30.0
"""Seconds between two looks at the other ranks, and those in which one may notice by itself that another failed."""

_MEETING = "ranks"
"""What the file is called through which the ranks find each other, with the name of its process (files.beside_of)."""

_STORE, _RANK, _SIZE = "STILLROOM_RANKS_STORE", "STILLROOM_RANK", "STILLROOM_RANKS"
_LEADER, _SHARED = "STILLROOM_LEADER", "STILLROOM_SHARED"


@dataclass(frozen=True)
class Group:
    """This rank and the others; every method but :meth:`part` is a collective call, which every rank has to make."""

    rank: int
    size: int
    device: torch.device
    shared: shared.Shared | None = None
    """Shared memory of ranks on the CPU of one machine; None elsewhere."""

    def part(self, whole: Tensor) -> Tensor:
        """This rank's rows of ``whole`` (B, ...); B is a multiple of the size."""
        share = len(whole) // self.size
        return whole[self.rank * share : (self.rank + 1) * share]

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum of ``numbers`` over all ranks, on the CPU; the host waits for it."""
        return self.total(numbers.to(self.device)).cpu()

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of ``numbers`` over all ranks, on this rank's device; may overwrite them, without a wait."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def pool(self, numbers: Tensor) -> None:
        """Replace ``numbers`` (N,), float32, by their sum over all ranks; the first call has the largest N."""
        if self.shared:
            self.shared.total(numbers)
        elif self.size > 1:
            dist.all_reduce(numbers)

    def mean(self, numbers: Tensor) -> None:
        """Replace ``numbers``, as :meth:`pool` takes them, by their mean over all ranks."""
        if self.size > 1:
            self.pool(numbers)
            numbers.div_(self.size)

    def wait(self) -> None:
        """Return when every rank has called this."""
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def together(size: int, scratch: Path, command: Sequence[str]) -> Iterator[Group]:
    """Yield the group of ``size`` ranks; ``command``: the arguments of Python that start another rank.

    Under torchrun its group is joined, whatever ``size`` says; with CUDA there is one rank for each device.
    UserError when a rank ends before its time.
    """
    threads = torch.get_num_threads()
    try:
        if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            yield _join_torchrun()
        elif _STORE in os.environ:
            yield _follow()
        else:
            with _lead(_possible(size), scratch, command) as group:
                yield group
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(threads)


def _possible(wanted: int) -> int:
    """How many ranks there are to be: ``wanted``, or with CUDA one for each GPU that this process sees."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else wanted
    if found != wanted:
        _log.info("train.ranks %d is for CPUs: here one rank for each GPU that CUDA_VISIBLE_DEVICES shows, %d",
                  wanted, found)  # fmt: skip
    return found


def _join_torchrun() -> Group:
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return Group(dist.get_rank(), dist.get_world_size(), device)


def _follow() -> Group:
    # A follower writes nothing, so nothing can be left half done.
    die_with_parent(signal.SIGKILL, parent=int(os.environ[_LEADER]))
    rank, size = int(os.environ[_RANK]), int(os.environ[_SIZE])
    store = dist.FileStore(os.environ[_STORE], size)
    store.set(f"here/{rank}", "1")
    inherited = os.environ.get(_SHARED)
    own = shared.Shared.join(inherited, rank, size) if inherited else None
    return Group(rank, size, _meet(store, rank, size), own)


@contextlib.contextmanager
def _lead(size: int, scratch: Path, command: Sequence[str]) -> Iterator[Group]:
    if size == 1:
        yield Group(0, 1, _device(0))
        return
    scratch.mkdir(parents=True, exist_ok=True)
    files.sweep(scratch, _MEETING)
    meeting = files.beside_of(scratch / _MEETING)
    children: list[subprocess.Popen] = []
    own: shared.Shared | None = None
    theirs: Sequence[Sequence[int]] = [()] * (size - 1)
    if _can_share():
        own, theirs = shared.lead(size)
    try:
        for rank, inherited in enumerate(theirs, 1):
            children.append(_start(rank, size, meeting, command, inherited))
            for line in inherited[1:]:
                os.close(line)
        store = dist.FileStore(str(meeting), size)
        for rank, child in enumerate(children, 1):
            _await(store, rank, child)
        device = _meet(store, 0, size)
        with _watching(children, meeting) if device.type == "cuda" else contextlib.nullcontext():
            yield Group(0, size, device, own)
        for child in children:  # what there was to do is done: one that does not end is killed below
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=60)
    except RuntimeError as error:
        lost = _lost([_code(child) for child in children])
        if not lost:
            raise
        raise UserError(lost) from error
    finally:
        for child in children:
            child.kill()
            child.wait()
        meeting.unlink(missing_ok=True)
        if own:
            own.close()


def _lost(codes: Sequence[int | None]) -> str:
    """One line for the ranks from 1 on that ended with these exit codes, empty when all went well or still run."""
    lost = [f"rank {rank} with code {code}" for rank, code in enumerate(codes, 1) if code]
    if not lost:
        return ""
    return (
        f"training lost {', '.join(lost)} (-9: the kernel, when memory runs out; {OUT_OF_MEMORY}: the GPU's memory ran "
        "out; else see above): run it again, it goes on from the last checkpoint"
    )


@contextlib.contextmanager
def _watching(children: Sequence[subprocess.Popen], meeting: Path) -> Iterator[None]:
    """End this process with one line and code 2 where a rank has failed and this one waits for it all the same.

    With NCCL it does, for minutes, deep inside a call that no exception reaches.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            codes = [child.poll() for child in children]
            if not any(codes):
                continue
            if not over.wait(_GRACE):
                _log.error("%s", _lost(codes))
                for child in children:
                    child.kill()
                meeting.unlink(missing_ok=True)
                os._exit(2)
            return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _can_share() -> bool:
    return hasattr(os, "memfd_create") and not torch.cuda.is_available()


def _start(
    rank: int, size: int, meeting: Path, command: Sequence[str], inherited: Sequence[int]
) -> subprocess.Popen:  # fmt: skip
    """Start rank ``rank``; ``inherited``: the file descriptors of :func:`.shared.lead`, or none."""
    source = str(Path(components.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    own = {_STORE: str(meeting), _RANK: str(rank), _SIZE: str(size), _LEADER: str(os.getpid()), "PYTHONPATH": path,
           "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", _SHARED: ",".join(map(str, inherited))}  # fmt: skip
    environment: Mapping[str, str] = {**os.environ, **own}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, pass_fds=inherited
    )  # fmt: skip


def _code(child: subprocess.Popen) -> int | None:
    """The exit code of ``child``, None while it runs; waits a moment, since its connection breaks before it ends."""
    try:
        return child.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return None


def _await(store: dist.Store, rank: int, child: subprocess.Popen) -> None:
    """Return when ``child`` has reported; RuntimeError, at once, when it ends before that."""
    while True:
        try:
            store.wait([f"here/{rank}"], datetime.timedelta(seconds=1))
            return
        except RuntimeError:  # not there within the second
            if child.poll() is not None:
                raise RuntimeError(f"rank {rank} ended with code {child.returncode} at its start") from None


def _meet(store: dist.Store, rank: int, size: int) -> torch.device:
    device = _device(rank)
    loopback = {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    before = {name: os.environ.get(name) for name in loopback}
    os.environ.update(loopback)
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return device


def _device(local: int) -> torch.device:
    """CUDA device ``local`` with TF32, or the CPU on one thread (two are slower at small batches)."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        # Each step has the same shapes. Three ways to compute a convolution are tried: all ten take seconds of a start.
        torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 3
        return torch.device("cuda", local)
    torch.set_num_threads(1)
    return torch.device("cpu")
