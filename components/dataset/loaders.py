"""Processes that gather images ahead of the step, into memory that they share with it.

They are forked, so they start in milliseconds and hold the memory map already.  A request and its answer are two
numbers each through pipes: nothing is pickled.  The memory is anonymous, so that it leaves nothing behind and the size
of /dev/shm, small in containers, does not matter.  At most :data:`AHEAD` batches a process wait to be used.

On the CPU a loader also widens and normalises; for CUDA it leaves what is stored in pinned memory, of bytes a quarter
of what there is to move, and the device normalises (that path has not been run on a GPU yet).
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import struct
import traceback
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.dataset import tensors
from components.samples.spec import SampleSpec

AHEAD = 2
_REQUEST = struct.Struct("<qq")


class Loaders:
    """``count`` processes that call ``gather(place)`` for the places to come."""

    def __init__(
        self, count: int, gather: Callable[[int], Tensor], shape: Callable[[int], Sequence[int]], device: torch.device,
        spec: SampleSpec, *, numbers: int,
    ) -> None:  # fmt: skip
        """``shape(place)``: that of ``gather(place)``, (B, ..., C) as stored; ``numbers``: the most in any of them."""
        self.device, self._spec = device, spec
        self._gather, self._shape, self._number = gather, shape, 0
        self._asked: deque[tuple[int, int]] = deque()
        """Number and place of each request that is not used yet."""
        self._slots = self._memory(AHEAD * count + 1, numbers)  # one more: that of the step under way
        self._copied: torch.cuda.Event | None = None
        self._workers = [self._fork() for _ in range(count)]

    def get(self, place: int, then: int, batch: int) -> Tensor:
        """The images at ``place``, float32 (B, C, ...), until the next call; ``then`` and on by ``batch`` follow."""
        if self._copied:
            self._copied.synchronize()  # the slot of the batch before is free now
        if not self._asked or self._asked[0][1] != place:
            self._forget()
            self._ask(place)
            self._ask(then)
        while len(self._asked) < len(self._slots) - 1:
            self._ask(self._asked[-1][1] + batch)
        number, _ = self._asked.popleft()
        self._answer(number)
        slot = self._slot(number, place)
        if self.device.type != "cuda":
            return slot
        moved = tensors.to_network(slot, self.device, spec=self._spec)
        self._copied = torch.cuda.Event()
        self._copied.record()
        return moved

    def close(self) -> None:
        """End the processes."""
        for process, to, back in self._workers:
            os.close(to)
            os.close(back)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._workers = []

    def _memory(self, slots: int, numbers: int) -> list[Tensor]:
        cuda = self.device.type == "cuda"
        kind = tensors.DTYPES[self._spec.dtype] if cuda else torch.float32
        size = -(-numbers * kind.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = torch.frombuffer(mmap.mmap(-1, size * slots), dtype=torch.uint8)
        if cuda:
            torch.cuda.cudart().cudaHostRegister(whole.data_ptr(), whole.numel(), 0)
        return [whole[at * size :][: numbers * kind.itemsize].view(kind) for at in range(slots)]

    def _slot(self, number: int, place: int) -> Tensor:
        """The memory of request ``number``, in the shape of what is at ``place``."""
        batch, *sides, channels = self._shape(place)
        inner = (batch, *sides, channels) if self.device.type == "cuda" else (batch, channels, *sides)
        return self._slots[number % len(self._slots)][: math.prod(inner)].view(inner)

    def _fork(self) -> tuple[int, int, int]:
        """(process, where to write requests, where to read answers)."""
        (asked, to), (back, answered), parent = os.pipe(), os.pipe(), os.getpid()
        process = os.fork()
        if process:
            os.close(asked)
            os.close(answered)
            return process, to, back
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # they may reach the whole group: the parent answers them
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(signal.SIGKILL, parent=parent)
            os.close(to)
            os.close(back)
            self._serve(asked, answered)
            code = 0
        except BaseException:  # whatever it was, the parent's code must not run on in this process
            traceback.print_exc()
        finally:
            os._exit(code)

    def _serve(self, asked: int, answered: int) -> None:
        torch.set_num_threads(1)
        while len(request := os.read(asked, _REQUEST.size)) == _REQUEST.size:
            number, place = _REQUEST.unpack(request)
            slot, images = self._slot(number, place), self._gather(place)
            if self.device.type == "cuda":
                slot.copy_(images)
            else:
                tensors.to_network(images, out=slot, spec=self._spec)
            os.write(answered, request)

    def _ask(self, place: int) -> None:
        to = self._workers[self._number % len(self._workers)][1]
        try:
            os.write(to, _REQUEST.pack(self._number, place))
        except BrokenPipeError:
            self._lost(self._number % len(self._workers))
        self._asked.append((self._number, place))
        self._number += 1

    def _answer(self, number: int) -> None:
        which = number % len(self._workers)
        reply = os.read(self._workers[which][2], _REQUEST.size)
        if len(reply) != _REQUEST.size or _REQUEST.unpack(reply)[0] != number:
            self._lost(which)

    def _forget(self) -> None:
        """Wait for what was asked for in vain."""
        while self._asked:
            self._answer(self._asked.popleft()[0])

    def _lost(self, which: int) -> None:
        process, to, back = self._workers.pop(which)
        os.close(to)
        os.close(back)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        raise UserError(
            f"loader {which} of train.loaders ended with code {code} (-9: the kernel, when memory runs out; -7: the "
            "pack changed on disk; else see above): run it again, it goes on from the last checkpoint"
        )
