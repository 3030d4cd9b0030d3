"""Vectors added up over ranks on one machine, in memory that they share.

Over loopback the gradients of the default network, 1.2 million numbers, take 5 to 6 ms of a step of 80; here 1 to 1.5
(benchmarks/ranks.py).  The memory has no name, so nothing is left behind by a process that is killed.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Sequence

import torch
from torch import Tensor

_TIMEOUT = 300.0
"""Seconds that a rank waits for another."""


class Shared:
    """One rank's side; :func:`lead` makes the leader's, :meth:`join` that of a rank that it starts."""

    def __init__(self, rank: int, size: int, memory: int, lines: Sequence[socket.socket]) -> None:
        """``memory``: file descriptor; ``lines``: of the leader to each other rank, of another rank to the leader."""
        self.rank, self.size = rank, size
        self._memory, self._lines = memory, lines
        self._slots: Tensor | None = None
        self._turn = 0
        for line in lines:
            line.settimeout(_TIMEOUT)

    @classmethod
    def join(cls, told: str, rank: int, size: int) -> Shared:
        """The side of ``rank``, from what :func:`lead` told it."""
        memory, line = map(int, told.split(","))
        return cls(rank, size, memory, [socket.socket(fileno=line)])

    def total(self, numbers: Tensor) -> None:
        """Put the sum over all ranks in the place of ``numbers``, (N,) float32 on the CPU; N is largest at first.

        RuntimeError when another rank has died.  Every rank adds in the order of ranks, so all get the same bits.
        """
        if self._slots is None:
            self._slots = self._mapped(len(numbers))
        # Two slots take turns: who writes to one again has met all ranks after they had read it.
        slot, self._turn = self._slots[self._turn], 1 - self._turn
        slot = slot[:, : len(numbers)]
        slot[self.rank].copy_(numbers)
        self._meet()
        torch.add(slot[0], slot[1], out=numbers)
        for other in slot[2:]:
            numbers.add_(other)

    def close(self) -> None:
        """Let go of memory and lines."""
        for line in self._lines:
            line.close()
        os.close(self._memory)

    def _mapped(self, count: int) -> Tensor:
        """Two slots of one vector a rank, (2, size, count) float32."""
        length = 2 * self.size * count * 4
        os.ftruncate(self._memory, length)  # every rank asks for the same
        return torch.frombuffer(mmap.mmap(self._memory, length), dtype=torch.float32).view(2, self.size, count)

    def _meet(self) -> None:
        """Return when every rank is here: all tell the leader, who tells all."""
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
    """The leader's side and the file descriptors, (memory, line), that each other rank inherits and is told of.

    The leader closes the lines of the others when they have them, so that it sees a rank end.
    """
    memory = os.memfd_create("stillroom", os.MFD_CLOEXEC)
    pairs = [socket.socketpair() for _ in range(1, size)]
    shared = Shared(0, size, memory, [own for own, _ in pairs])
    return shared, [(memory, other.detach()) for _, other in pairs]
