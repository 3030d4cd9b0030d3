"""Sets that grow together: which images belong to one group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Groups:
    """Union-find over 0..n-1; a group is called by its smallest member, its founder."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def founder(self, member: int) -> int:
        """The smallest member of the group that ``member`` is in."""
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]  # halve the path for the next one who asks
            member = parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        """Make one group of the two groups."""
        one, other = self.founder(one), self.founder(other)
        self._parent[max(one, other)] = min(one, other)

    def join_all(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Join the two groups of each pair."""
        for one, other in pairs:
            self.join(one, other)


def founders(digests: np.ndarray) -> np.ndarray:
    """The position, int64 (N,), of the first of ``digests`` that is equal to each; rows of a multiple of 8 bytes."""
    if not len(digests):
        return np.empty(0, np.int64)
    words = np.ascontiguousarray(digests).view(np.uint64).reshape(len(digests), -1)
    order = np.lexsort(words.T)  # it keeps the order of equal ones
    new = np.ones(len(order), bool)
    for column in words.T:
        new[1:] &= column[order[1:]] == column[order[:-1]]
    new[1:] = ~new[1:]
    found = np.empty(len(order), np.int64)
    found[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return found
