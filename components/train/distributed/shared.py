"""All-reduce over the ranks of one machine in shared memory.

For the gradients of the default network, 1.2 million numbers, it takes 1.5 ms where gloo over loopback takes 5.2
(benchmarks/RESULTS.md, ranks).  The memory has no name, so that a process that is killed leaves nothing behind.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Sequence

import torch
from torch import Tensor

_TIMEOUT = 300.0
"""Seconds that a rank waits for another before it gives up."""


class Shared:
    """One rank's end of the shared memory: :func:`lead` makes the leader's (rank 0), :meth:`join` another rank's."""

    def __init__(self, rank: int, size: int, memory: int, lines: Sequence[socket.socket]) -> None:
        """``memory``: its file descriptor; ``lines``: the leader has one to each other rank, these have one to it."""
        self.rank, self.size = rank, size
        self._memory, self._lines = memory, lines
        self._slots: Tensor | None = None
        self._turn = 0
        for line in lines:
            line.settimeout(_TIMEOUT)

    @classmethod
    def join(cls, descriptors: str, rank: int, size: int) -> Shared:
        """The end of ``rank``; ``descriptors``: those that it inherited, as ``memory,line`` (see :func:`lead`)."""
        memory, line = map(int, descriptors.split(","))
        return cls(rank, size, memory, [socket.socket(fileno=line)])

    def total(self, numbers: Tensor) -> None:
        """Replace ``numbers``, (N,) float32 on the CPU, by their sum over all ranks; the first call has the largest N.

        RuntimeError when another rank has ended.  Every rank adds in the order of ranks, so all get the same bits.
        """
        if self._slots is None:
            self._slots = self._mapped(len(numbers))
        # Two slots alternate: before a rank writes to a slot again, all ranks have read it (they met in between).
        slot, self._turn = self._slots[self._turn], 1 - self._turn
        slot = slot[:, : len(numbers)]
        slot[self.rank].copy_(numbers)
        self._meet()
        torch.add(slot[0], slot[1], out=numbers)
        for other in slot[2:]:
            numbers.add_(other)

    def close(self) -> None:
        """Close the memory and the lines."""
        for line in self._lines:
            line.close()
        os.close(self._memory)

    def _mapped(self, count: int) -> Tensor:
        """Two slots, each of one vector per rank: (2, size, count) float32."""
        length = 2 * self.size * count * 4
        os.ftruncate(self._memory, length)  # every rank asks for the same
        return torch.frombuffer(mmap.mmap(self._memory, length), dtype=torch.float32).view(2, self.size, count)

    def _meet(self) -> None:
        """A barrier: every rank tells the leader that it is here, then the leader tells every rank."""
        try:
            if self.rank:
                self._lines[0].sendall(b".")
            arrived = [line.recv(1) for line in self._lines]
            if not self.rank:
                for line in self._lines:
                    line.sendall(b".")
        except OSError as error:
            raise RuntimeError(f"a rank does not answer: {error}") from error
        if not all(arrived):
            raise RuntimeError("a rank has ended")


def lead(size: int) -> tuple[Shared, list[tuple[int, int]]]:
    """The leader's end, and the file descriptors (memory, line) that each of the other ranks is to inherit.

    The leader closes its copies of the other ranks' lines once they run, so that it notices when a rank ends.
    """
    memory = os.memfd_create("stillroom", os.MFD_CLOEXEC)
    pairs = [socket.socketpair() for _ in range(1, size)]
    shared = Shared(0, size, memory, [own for own, _ in pairs])
    return shared, [(memory, other.detach()) for _, other in pairs]
