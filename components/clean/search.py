"""Which binary codes lie within a Hamming radius of each other.

Codes are uint8 (N, bytes), of 64 or 256 bits.  A match is a pair of positions and the number of differing bits.
Every operator is a pure function of its arguments, and the blocks of ``within`` are independent of each other:
``within`` looks at every pair; ``lists`` looks at those of which it is likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.base.algorithms import Algorithm

ALGORITHM = Algorithm("search", 2, ("faiss-cpu", "numpy"))
_BLOCK = 4096  # queries at a time


@dataclass(frozen=True)
class Matches:
    """Positions ``a`` and ``b`` and the bits that differ, each int64 (N,)."""

    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def where(self, chosen: np.ndarray) -> Matches:
        """Those that ``chosen`` (a mask, or positions) picks."""
        return Matches(self.a[chosen], self.b[chosen], self.distance[chosen])


def gathered(parts: list[Matches]) -> Matches:
    """``parts`` as one, sorted by b and a."""
    if not parts:
        return Matches(*(np.empty(0, np.int64) for _ in range(3)))
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "distance")]
    return Matches(*columns).where(np.lexsort((columns[0], columns[1])))


def hamming(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Differing bits of the codes, row by row, int64."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def within(queries: np.ndarray, codes: np.ndarray, radius: int) -> Matches:
    """Queries (``b``) and codes (``a``) at most ``radius`` bits apart."""
    import faiss

    faiss.omp_set_num_threads(1)  # there is a process a core already
    if not len(queries) or not len(codes):
        return gathered([])
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(np.ascontiguousarray(codes))
    return gathered(list(_ranges(index, queries, radius)))


def _ranges(index: Any, queries: np.ndarray, radius: int) -> Iterator[Matches]:
    for start in range(0, len(queries), _BLOCK):
        block = np.ascontiguousarray(queries[start : start + _BLOCK])
        limits, distances, found = index.range_search(block, radius + 1)  # it takes what is nearer than that
        who = np.repeat(np.arange(len(block), dtype=np.int64) + start, np.diff(limits.astype(np.int64)))
        yield Matches(found.astype(np.int64), who, distances.astype(np.int64))
