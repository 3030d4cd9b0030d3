"""Candidates that are crops or shifts of each other: where a part of one picture looks like a part of another.

Windows of a picture are described by the lowest waves of their luma, each by a unit vector in whole numbers.  Two
pictures are near when a window of the one has the waves of a window of the other: the whole against a corner finds a
crop, left against right a shift.  Mirrored and turned pictures have the same waves with other signs.

Not every window is compared with every other: each lies in the bucket of the signs of its longest waves, and is looked
for in its own bucket and in those that differ in its faintest signs.  Buckets are the same whatever images there are.
What is near is laid on each other roughly (``rough``).  So a candidate depends on its two pictures alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from components.base import parallel
from components.base.algorithms import Algorithm
from components.clean import fingerprints, rough
from components.clean.fingerprints import SIDE

ALGORITHM = Algorithm("windows", 1, ("numpy",), uses=(fingerprints.ALGORITHM, rough.ALGORITHM))
_WHOLE, _MIDDLE, _INNER = (0, 32), (1.5, 30.5), (3, 29)
_FIRST, _LAST, _LOW, _HIGH = (0, 29), (3, 32), (1, 27), (5, 31)
WINDOWS = (
    (_WHOLE, _WHOLE), (_MIDDLE, _MIDDLE), (_INNER, _INNER),
    (_FIRST, _WHOLE), (_LAST, _WHOLE), (_WHOLE, _FIRST), (_WHOLE, _LAST),
    (_FIRST, _FIRST), (_LAST, _FIRST), (_FIRST, _LAST), (_LAST, _LAST),
    (_LOW, _LOW), (_HIGH, _LOW), (_LOW, _HIGH), (_HIGH, _HIGH),
)  # fmt: skip
"""The windows, across and down, in cells of the thumbnail."""
_MIRRORED = [0, 1, 2, 4, 3, 5, 6, 8, 7, 10, 9, 12, 11, 14, 13]  # where each window lies in the mirror image
COMBINATIONS = (
    (0, 0), (2, 2), (1, 2), (2, 1), (3, 4), (4, 3), (5, 6), (6, 5),
    *((0, part) for part in range(2, len(WINDOWS))), *((part, 0) for part in range(2, len(WINDOWS))),
)  # fmt: skip
"""Which window of the earlier picture is compared with which of the later one."""
SEARCHES = tuple(
    (number, way) for number, (one, other) in enumerate(COMBINATIONS) for way in range(2 if one or other else 8)
)
"""Combinations, and the orientations of the later picture in which each is tried: parts are not turned."""
_WAVES = 6  # frequencies each way: more of them would bear less shift
_UNIT = 127  # length of a vector: products of two add up exactly in float32, whatever the order
_NEAR = 0.86  # cosine from which two windows look alike
RECORD = np.dtype([("drawn", "?"), ("waves", "i1", (len(WINDOWS), _WAVES**2 - 1))])
"""What is searched of one picture; drawings are not."""
NEAR = np.dtype([("a", "<i8"), ("b", "<i8"), ("orientation", "u1"), ("combination", "u1"), ("likeness", "<f4")])
_WEIGHTS = np.hypot(*np.mgrid[:_WAVES, :_WAVES]).ravel()[1:]  # pictures hold less of a wave the shorter it is
_SIGNS = 9  # a bucket's name; with more a true pair is lost more often, with fewer buckets are large
_FAINT = 4  # of them may differ
_POWERS = 1 << np.arange(_SIGNS)
_LONGEST = np.lexsort((np.arange(_WAVES**2 - 1), _WEIGHTS))[:_SIGNS]
_SOME = 4096  # pictures described at a time
_FEW = 512  # pairs laid on each other at a time: they stay in the cache
_BLOCK = 32_768  # later pictures searched for at a time


def records(thumbs: np.ndarray) -> np.ndarray:
    """The RECORD of each thumbnail, uint8 (N, 32, 32, 3)."""
    found = np.zeros(len(thumbs), RECORD)
    for start in range(0, len(thumbs), _SOME):
        some = slice(start, start + _SOME)
        grey = fingerprints.luma(thumbs[some])
        found["drawn"][some] = fingerprints.drawn(thumbs[some])
        for number, (across, down) in enumerate(WINDOWS):
            seen = (_sampled(down) @ grey @ _sampled(across).T).reshape(len(grey), -1)[:, 1:] * _WEIGHTS
            long = np.sqrt(np.einsum("nw,nw->n", seen, seen))[:, None]
            found["waves"][some, number] = np.round(seen / np.maximum(long, 1.0) * _UNIT)
    return found


@functools.cache
def _sampled(window: tuple[float, float]) -> np.ndarray:
    """(waves, 32): the cosine transform of a window, sampled at 32 places; whole numbers."""
    low, high = window
    at = np.clip(low + (np.arange(SIDE) + 0.5) * (high - low) / SIDE - 0.5, 0, SIDE - 1)
    left = np.minimum(at.astype(int), SIDE - 2)
    samples = np.zeros((SIDE, SIDE))
    samples[np.arange(SIDE), left] = 1 - (at - left)
    samples[np.arange(SIDE), left + 1] = at - left
    return np.round(4096 * np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(_WAVES)[:, None]) @ samples)


def candidates(
    seen: np.ndarray, thumbs: Callable[[np.ndarray], np.ndarray], large: np.ndarray, since: int
) -> np.ndarray:
    """NEAR pairs a < b with b >= ``since`` that also fit roughly, each once in an orientation of b, sorted.

    ``seen`` (N,) has the RECORD of every picture; ``thumbs`` gives the thumbnails (M, 32, 32, 3) at positions (M,).
    Two that are ``large`` (N,) need not fit roughly: corners will tell, also through a frame.
    """
    pictures = np.flatnonzero(~seen["drawn"])
    first = int(np.searchsorted(pictures, since))
    if first == len(pictures):
        return np.empty(0, NEAR)
    waves = seen["waves"][pictures]
    tasks = []
    for number, way in SEARCHES:
        one, other = COMBINATIONS[number]
        tasks.append([(waves[:, one], _turned(waves[first:], other, way), number, way)])
    pairs = np.concatenate([part for parts in parallel.ordered(near, tasks) for part in parts])
    order = np.lexsort((pairs["combination"], -pairs["likeness"], pairs["orientation"], pairs["b"], pairs["a"]))
    pairs = pairs[order]
    best = np.ones(len(pairs), bool)
    best[1:] = np.any([pairs[name][1:] != pairs[name][:-1] for name in ("a", "b", "orientation")], axis=0)
    pairs = pairs[best]
    pairs["a"], pairs["b"] = pictures[pairs["a"]], pictures[pairs["b"]]
    corners = large[pairs["a"]] & large[pairs["b"]]
    corners[~corners] = _fitting(pairs[~corners], thumbs)
    return pairs[corners]


def _turned(waves: np.ndarray, window: int, orientation: int) -> np.ndarray:
    """The waves (N, waves) of ``window`` of pictures that are seen in ``orientation``."""
    waves = waves[:, _MIRRORED[window] if orientation & 1 else window]
    square = np.concatenate([np.zeros((len(waves), 1), np.int8), waves], axis=1).reshape(-1, _WAVES, _WAVES)
    turned = fingerprints.oriented(square, orientation).reshape(len(waves), -1)[:, 1:]
    return np.ascontiguousarray(turned.astype(np.int8))


def _fitting(pairs: np.ndarray, thumbs: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Which of ``pairs`` fit when the one window is laid on the other, bool (N,)."""
    starts = np.stack([rough.between(WINDOWS[one], WINDOWS[other]) for one, other in COMBINATIONS])
    ends, where = np.unique(np.concatenate([pairs["a"], pairs["b"]]), return_inverse=True)
    small = rough.shrunk(thumbs(ends))
    ones, others = where[: len(pairs)], where[len(pairs) :]
    fit = np.zeros(len(pairs), bool)
    for way in range(8):
        mine = np.flatnonzero(pairs["orientation"] == way)
        for start in range(0, len(mine), _FEW):
            some = mine[start : start + _FEW]
            later = fingerprints.seen(small[others[some]], way)
            fit[some] = rough.fits(small[ones[some]], later, starts[pairs["combination"][some]])
    return fit


def near(tasks: list[tuple[np.ndarray, np.ndarray, int, int]]) -> list[np.ndarray]:
    """NEAR pairs of each (a window of all, one of the last of them, combination, orientation of these); pure."""
    found = []
    for one, other, number, way in tasks:
        parts = [np.empty(0, NEAR)]
        for a, b, likeness in _alike(one, other, len(one) - len(other)):
            pairs = np.empty(len(a), NEAR)
            pairs["a"], pairs["b"], pairs["likeness"] = a, b, likeness
            pairs["orientation"], pairs["combination"] = way, number
            parts.append(pairs)
        found.append(np.concatenate(parts))
    return found


def _alike(one: np.ndarray, other: np.ndarray, first: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions a < b of vectors that are alike, and how much; ``other`` (M, waves) begins at position ``first``."""
    names = ((one[:, _LONGEST] > 0) @ _POWERS).astype(np.uint16)
    order = np.argsort(names, kind="stable")
    edges = np.searchsorted(names[order], np.arange(2**_SIGNS + 1)).tolist()
    codes = one[order].astype(np.float32)
    for start in range(0, len(other), _BLOCK):
        block = other[start : start + _BLOCK].astype(np.float32)
        looked = _buckets(other[start : start + _BLOCK]).astype(np.uint16).ravel()
        queue = np.argsort(looked, kind="stable")
        ends = np.searchsorted(looked[queue], np.arange(2**_SIGNS + 1)).tolist()
        queue >>= _FAINT
        base = first + start
        for bucket in range(2**_SIGNS):
            low, high = edges[bucket], edges[bucket + 1]
            high = low + int(order[low:high].searchsorted(base + len(block)))  # what came earlier
            who = queue[ends[bucket] : ends[bucket + 1]]
            if low == high or not len(who):
                continue
            likeness = (block[who] @ codes[low:high].T).ravel()
            hits = (likeness >= _NEAR * _UNIT**2).nonzero()[0]
            if len(hits):
                a, b = order[low + hits % (high - low)], who[hits // (high - low)] + base
                earlier = a < b
                yield a[earlier], b[earlier], likeness[hits][earlier]


def _buckets(vectors: np.ndarray) -> np.ndarray:
    """(N, 2**_FAINT): the buckets in which each vector is looked for."""
    longest = vectors[:, _LONGEST].astype(np.int16)
    faintest = np.argsort(np.abs(longest), axis=1, kind="stable")[:, :_FAINT]
    flips = _POWERS[faintest] @ np.array(list(itertools.product((0, 1), repeat=_FAINT))).T
    return np.asarray(((longest > 0) @ _POWERS)[:, None] ^ flips)
