"""Which binary codes lie within a Hamming radius of each other.

Codes are uint8 (N, bytes), of 64 or 256 bits.  A match is a pair of positions and the number of differing bits.
Every operator is a pure function of its arguments, and the blocks of ``within`` are independent of each other.

- ``join``: all pairs of 64-bit codes, exact, by a table for each quarter of the bits: if 10 of 64 bits differ, then
  at most 2 do in some quarter (pigeonhole), so only buckets at most that far apart are compared.
- ``within``: queries against codes, exact, every pair looked at by faiss; the right one for few queries, or wide radii.
- ``banded``: pairs that agree in some band of 32 bits or more, by DuckDB, which spills to disk; exact while the
  radius is smaller than the number of bands.
- ``Lists``: queries against the nearest of many lists of codes (faiss IVF): for millions, and not exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from components.base.algorithms import Algorithm

ALGORITHM = Algorithm("search", 1, ("faiss-cpu", "numpy"))
FLAT = 100_000  # codes up to which every one is looked at
_BLOCK = 4096  # queries at a time
_CHUNK = 1 << 20  # candidate pairs at a time
_BAND = 16  # bits of a table's key: 65,536 buckets


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


def _ranges(index: object, queries: np.ndarray, radius: int) -> Iterator[Matches]:
    for start in range(0, len(queries), _BLOCK):
        block = np.ascontiguousarray(queries[start : start + _BLOCK])
        limits, distances, found = index.range_search(block, radius + 1)  # it takes what is nearer than that
        who = np.repeat(np.arange(len(block), dtype=np.int64) + start, np.diff(limits.astype(np.int64)))
        yield Matches(found.astype(np.int64), who, distances.astype(np.int64))


def join(codes: np.ndarray, radius: int) -> Matches:
    """All pairs a < b of 64-bit codes at most ``radius`` bits apart, each once."""
    words = np.ascontiguousarray(codes).view("<u8").ravel()
    bands = 64 // _BAND
    # Distances that each band may have, so that one more in every band is more than the radius in all.
    reach = [(radius + 1 + at) // bands - 1 for at in range(bands)]
    if max(reach) > 3:
        raise ValueError(f"radius {radius}: tables help up to 15 bits; use within")
    parts = [_join_band(words, at * _BAND, most, radius) for at, most in enumerate(reach) if most >= 0]
    found = gathered(parts)
    new = np.ones(len(found), bool)  # several bands may find one pair
    new[1:] = (np.diff(found.a) != 0) | (np.diff(found.b) != 0)
    return found.where(new)


def _join_band(words: np.ndarray, shift: int, most: int, radius: int) -> Matches:
    """Pairs at most ``radius`` apart, and at most ``most`` in the 16 bits from ``shift`` on."""
    keys = (words >> np.uint64(shift)).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(keys, minlength=1 << _BAND)
    starts = np.cumsum(counts) - counts
    left, right = _bucket_pairs(counts, _masks(most))
    parts = list(_products(starts, counts, left, right, words[order], radius))
    if not parts:
        return gathered([])
    one, other, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    one, other = order[one], order[other]
    return Matches(np.minimum(one, other), np.maximum(one, other), distance.astype(np.int64))


def _bucket_pairs(counts: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Buckets that hold something and differ by one of ``masks``, each pair once, left <= right."""
    held = np.flatnonzero(counts).astype(np.int32)
    full = counts > 0
    lefts, rights = [held[counts[held] > 1]], [held[counts[held] > 1]]
    step = max(1, 2 * _CHUNK // max(1, len(held)))
    for start in range(1, len(masks), step):
        right = held ^ masks[start : start + step, None]
        kept = (right > held) & full[right]
        rights.append(right[kept])
        lefts.append(np.broadcast_to(held, right.shape)[kept])
    return np.concatenate(lefts), np.concatenate(rights)


def _masks(most: int) -> np.ndarray:
    """All 16-bit numbers of at most ``most`` bits, int32; 0 comes first."""
    chosen = (bits for weight in range(most + 1) for bits in combinations(range(_BAND), weight))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], np.int32)


def _products(
    starts: np.ndarray, counts: np.ndarray, left: np.ndarray, right: np.ndarray, words: np.ndarray, radius: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Near pairs (positions in ``words``, distance) out of each bucket of ``left`` and its partner in ``right``."""
    members = np.repeat(np.arange(len(left)), counts[left])  # the bucket pair of each member on the left
    one = _ranges_of(starts[left], counts[left])
    widths = counts[right][members]
    ends = np.cumsum(widths)
    at = 0
    while at < len(one):
        until = max(at + 1, int(np.searchsorted(ends, (ends[at - 1] if at else 0) + _CHUNK, side="right")))
        some = slice(at, until)
        a = np.repeat(one[some], widths[some])
        b = _ranges_of(starts[right][members[some]], widths[some])
        distance = np.bitwise_count(words[a] ^ words[b])
        near = np.flatnonzero(distance <= radius)
        a, b, distance = a[near], b[near], distance[near]
        once = a < b  # a bucket with itself gives both ways round; buckets lie in the order of their numbers
        yield a[once], b[once], distance[once]
        at = until


def _ranges_of(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, ... of each range, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def banded(codes: np.ndarray, radius: int, *, band: int = 32) -> Matches:
    """Pairs a < b at most ``radius`` bits apart that agree in some band of ``band`` bits (32 or 64)."""
    import duckdb
    import pyarrow as pa

    words = np.ascontiguousarray(codes).view(f"<u{band // 8}")
    parts = []
    with duckdb.connect(config={"threads": 1}) as engine:
        for at in range(words.shape[1]):
            key = words[:, at]
            alone = np.bincount(np.unique(key, return_inverse=True)[1]) if len(key) else np.empty(0)
            if not (alone > 1).any():
                continue
            engine.register("codes", pa.table({"key": key, "at": np.arange(len(key))}))
            pairs = engine.execute(
                "select x.at as a, y.at as b from codes x join codes y on x.key = y.key and x.at < y.at"
            ).fetchnumpy()
            engine.unregister("codes")
            parts.append(_near(codes, pairs["a"].astype(np.int64), pairs["b"].astype(np.int64), radius))
    found = gathered(parts)
    new = np.ones(len(found), bool)
    new[1:] = (np.diff(found.a) != 0) | (np.diff(found.b) != 0)
    return found.where(new)


def _near(codes: np.ndarray, a: np.ndarray, b: np.ndarray, radius: int) -> Matches:
    distance = hamming(codes[a], codes[b])
    return Matches(a, b, distance).where(distance <= radius)


class Lists:
    """Codes in lists around centres that are learnt from ``sample`` once, so that later codes change no match."""

    def __init__(self, sample: np.ndarray, *, lists: int = 1024, probes: int = 32) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        bits = sample.shape[1] * 8
        self._quantizer = faiss.IndexBinaryFlat(bits)
        self._index = faiss.IndexBinaryIVF(self._quantizer, bits, min(lists, max(1, len(sample) // 40)))
        self._index.nprobe = probes
        self._index.cp.seed = 0
        self._index.train(np.ascontiguousarray(sample))

    def add(self, codes: np.ndarray) -> None:
        """Put ``codes`` behind those that are there."""
        self._index.add(np.ascontiguousarray(codes))

    def within(self, queries: np.ndarray, radius: int) -> Matches:
        """Queries (``b``) and codes (``a``) at most ``radius`` bits apart, of the lists nearest to each query."""
        return gathered(list(_ranges(self._index, queries, radius)))
