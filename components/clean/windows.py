"""Candidates that are crops or shifts of each other: where a part of one picture looks like a part of another.

Windows of a picture are described by the lowest waves of their luma, each by a unit vector in whole numbers.  Two
pictures are near when a window of the one has the waves of a window of the other: the whole against a corner finds a
crop, left against right a shift.  Mirrored and turned pictures have the same waves with other signs.

Not every window is compared with every other: each lies in the bucket of the signs of its longest waves, and is looked
for in its own bucket and in those that differ in its faintest signs.  Buckets are the same whatever images there are;
there are more of them for a picture that comes after many others (``lists.levels``).  What is near is laid on each
other roughly (``rough``).  So a candidate depends on its two pictures and on the later one's place alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from components.base import parallel
from components.base.algorithms import Algorithm
from components.clean import fingerprints, lists, rough
from components.clean.fingerprints import SIDE

ALGORITHM = Algorithm("windows", 1, ("numpy",), uses=(fingerprints.ALGORITHM, rough.ALGORITHM))
SEARCH = Algorithm("search by windows", 1, ("numpy",), uses=(ALGORITHM, lists.ALGORITHM))
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
_BY_WINDOW = sorted(SEARCHES, key=lambda each: COMBINATIONS[each[0]][0])
_WAVES = 6  # frequencies each way: more of them would bear less shift
_UNIT = 127  # length of a vector: products of two add up exactly in float32, whatever the order
_NEAR = 0.86  # cosine from which two windows look alike
RECORD = np.dtype([("drawn", "?"), ("waves", "i1", (len(WINDOWS), _WAVES**2 - 1))])
"""What is searched of one picture; drawings are not."""
NEAR = np.dtype([("a", "<i8"), ("b", "<i8"), ("orientation", "u1"), ("combination", "u1"), ("likeness", "<f4")])
_WEIGHTS = np.hypot(*np.mgrid[:_WAVES, :_WAVES]).ravel()[1:]  # pictures hold less of a wave the shorter it is
_SIGNS = 9  # a bucket's name; with more a true pair is lost more often, with fewer buckets are large
_FAINT = 4  # of them may differ
_LONGEST = np.lexsort((np.arange(_WAVES**2 - 1), _WEIGHTS))
_SOME = 1024  # pictures described at a time
_FEW = 512  # pairs laid on each other at a time: they stay in the cache
_BLOCK = 32_768  # later pictures searched for at a time: their pairs are in memory
_MOST = 131_072  # vectors that a worker gets at a time
_ASKED = 4096  # later vectors for which the same buckets are sent once
_ROWS = 256  # later vectors in a product: it stays in the cache
Waves = Callable[[np.ndarray, int], np.ndarray]
"""The waves, int8 (N, waves), of a window of the pictures whose windows lie at some places (N,)."""


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
    places: np.ndarray, waves: Waves, grey: Callable[[np.ndarray], np.ndarray], large: np.ndarray, since: int
) -> np.ndarray:
    """NEAR pairs a < b with b >= ``since`` that also fit roughly, each once in an orientation of b, sorted.

    ``places`` (N,) says where the windows of each picture lie, -1 for one that is not searched for: ``waves`` gives
    them, and ``grey`` the rough.shrunk luma (M, 16, 16) at positions (M,).  Two that are ``large`` (N,) need not fit
    roughly: corners will tell, also through a frame.
    """
    pictures = np.flatnonzero(places >= 0)
    first = int(np.searchsorted(pictures, since))
    parts = [np.empty(0, NEAR)]
    for level, start, end in _blocks(pictures, first):
        pairs = _best(_searched(places[pictures[:end]], waves, start, level))
        pairs["a"], pairs["b"] = pictures[pairs["a"]], pictures[pairs["b"]]
        corners = large[pairs["a"]] & large[pairs["b"]]
        corners[~corners] = _fitting(pairs[~corners], grey)
        parts.append(pairs[corners])
    found = np.concatenate(parts)
    return found[np.lexsort((found["orientation"], found["b"], found["a"]))]


def _blocks(pictures: np.ndarray, first: int) -> Iterator[tuple[int, int, int]]:
    """(level, start, end) of the numbers of ``pictures`` from ``first`` on that are searched for at once.

    The level is that of the picture's place among all, whatever is searched for by windows.
    """
    if first == len(pictures):
        return
    for level, low, high in lists.levels(int(pictures[first]), int(pictures[-1]) + 1):
        start, end = np.searchsorted(pictures, (low, high)).tolist()
        for at in range(start, end, _BLOCK):
            yield max(level + 1, 0), at, min(end, at + _BLOCK)


def _searched(places: np.ndarray, waves: Waves, start: int, level: int) -> np.ndarray:
    """NEAR pairs of numbers of ``places``, each b from ``start`` on, as often as they are found."""
    tasks = ([task] for task in _tasks(places, waves, start, level))
    return np.concatenate([np.empty(0, NEAR), *(part for parts in parallel.ordered(near, tasks) for part in parts)])


def _best(pairs: np.ndarray) -> np.ndarray:
    """Each pair once for each orientation: where it is most alike."""
    order = np.lexsort((pairs["combination"], -pairs["likeness"], pairs["orientation"], pairs["b"], pairs["a"]))
    pairs = pairs[order]
    best = np.ones(len(pairs), bool)
    best[1:] = np.any([pairs[name][1:] != pairs[name][:-1] for name in ("a", "b", "orientation")], axis=0)
    return pairs[best]


class Asked(NamedTuple):
    """A block of later vectors that are looked for in the buckets of a window."""

    block: np.ndarray
    """int8 (M, waves): those of the numbers from the task's ``start`` on."""
    queue: np.ndarray
    """Which of the block are looked for, bucket by bucket, ascending in each."""
    ends: np.ndarray
    """(buckets + 1,): where each bucket begins in ``queue``."""
    combination: int
    orientation: int


class Task(NamedTuple):
    """Some buckets of all vectors of a window, and what is looked for in them."""

    codes: np.ndarray
    """int8 (R, waves), bucket by bucket."""
    numbers: np.ndarray
    """int32 (R,): whose they are, ascending in a bucket."""
    edges: np.ndarray
    """(buckets + 1,): where each bucket begins in ``codes``."""
    start: int
    asked: list[Asked]


def _tasks(places: np.ndarray, waves: Waves, start: int, level: int) -> Iterator[Task]:
    """All searches for the numbers from ``start`` on; one window is in memory at a time.

    With each level there are four times as many buckets, of which twice as many are looked into.
    """
    signs, faint = _SIGNS + 2 * level, _FAINT + level
    for one, searches in itertools.groupby(_BY_WINDOW, lambda each: COMBINATIONS[each[0]][0]):
        codes = waves(places, one)
        names = _named(codes, signs)
        order = np.argsort(names, kind="stable").astype(np.int32)
        edges = np.searchsorted(names[order], np.arange(2**signs + 1))
        codes = codes[order]
        rest = list(searches)
        while rest:
            some = rest[: max(1, _ASKED // (len(places) - start))]
            rest = rest[len(some) :]
            asked = [_asked(places[start:], waves, number, way, signs, faint) for number, way in some]
            for part in _ranges(edges):
                rows, within = slice(edges[part.start], edges[part.stop]), slice(part.start, part.stop + 1)
                yield Task(codes[rows], order[rows], edges[within] - rows.start, start, [
                    each._replace(queue=each.queue[each.ends[part.start] : each.ends[part.stop]],
                                  ends=each.ends[within] - each.ends[part.start]) for each in asked
                ])  # fmt: skip


def _asked(places: np.ndarray, waves: Waves, number: int, way: int, signs: int, faint: int) -> Asked:
    """What combination ``number`` looks for in orientation ``way``, of the pictures at ``places``."""
    other = COMBINATIONS[number][1]
    block = _turned(waves(places, _MIRRORED[other] if way & 1 else other), way)
    looked = _buckets(block, signs, faint).ravel()
    queue = np.argsort(looked, kind="stable")
    ends = np.searchsorted(looked[queue], np.arange(2**signs + 1))
    return Asked(block, (queue >> faint).astype(np.int32), ends, number, way)


def _ranges(edges: np.ndarray) -> Iterator[slice]:
    """Buckets that follow on each other, of about _MOST vectors together."""
    low = 0
    while low < len(edges) - 1:
        high = max(low + 1, int(np.searchsorted(edges, edges[low] + _MOST, side="right")) - 1)
        yield slice(low, high)
        low = high


def _turned(waves: np.ndarray, orientation: int) -> np.ndarray:
    """The ``waves`` (N, waves) of a window, as they are of pictures that are seen in ``orientation``."""
    square = np.concatenate([np.zeros((len(waves), 1), np.int8), waves], axis=1).reshape(-1, _WAVES, _WAVES)
    turned = fingerprints.oriented(square, orientation).reshape(len(waves), -1)[:, 1:]
    return np.ascontiguousarray(turned.astype(np.int8))


def _fitting(pairs: np.ndarray, grey: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Which of ``pairs`` fit when the one window is laid on the other, bool (N,)."""
    starts = np.stack([rough.between(WINDOWS[one], WINDOWS[other]) for one, other in COMBINATIONS])
    fit = np.zeros(len(pairs), bool)
    for way in range(8):
        mine = np.flatnonzero(pairs["orientation"] == way)
        for start in range(0, len(mine), _FEW):
            some = mine[start : start + _FEW]
            later = fingerprints.seen(grey(pairs["b"][some]), way)
            fit[some] = rough.fits(grey(pairs["a"][some]), later, starts[pairs["combination"][some]])
    return fit


def near(tasks: list[Task]) -> list[np.ndarray]:
    """NEAR pairs of numbers a < b of each task, the vectors of which are alike; pure."""
    found = []
    for task in tasks:
        parts = [np.empty(0, NEAR)]
        codes, numbers = task.codes.astype(np.float32), task.numbers.astype(np.int64)
        for asked in task.asked:
            for a, b, likeness in _alike(codes, numbers, task.edges.tolist(), task.start, asked):
                pairs = np.empty(len(a), NEAR)
                pairs["a"], pairs["b"], pairs["likeness"] = a, b, likeness
                pairs["orientation"], pairs["combination"] = asked.orientation, asked.combination
                parts.append(pairs)
        found.append(np.concatenate(parts))
    return found


def _alike(
    codes: np.ndarray, numbers: np.ndarray, edges: list[int], start: int, asked: Asked
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers a < b of vectors that are alike, and how much."""
    block, ends = asked.block.astype(np.float32), asked.ends.tolist()
    for bucket in range(len(edges) - 1):
        low = edges[bucket]
        for first in range(ends[bucket], ends[bucket + 1], _ROWS):
            who = asked.queue[first : min(first + _ROWS, ends[bucket + 1])]
            high = low + int(numbers[low : edges[bucket + 1]].searchsorted(who[-1] + start))  # what came earlier
            if low == high:
                continue
            likeness = (block[who] @ codes[low:high].T).ravel()
            hits = (likeness >= _NEAR * _UNIT**2).nonzero()[0]
            if len(hits):
                a, b = numbers[low + hits % (high - low)], who[hits // (high - low)].astype(np.int64) + start
                earlier = a < b
                yield a[earlier], b[earlier], likeness[hits][earlier]


def _named(vectors: np.ndarray, signs: int) -> np.ndarray:
    """The bucket (N,) in which each vector lies: its longest waves' signs."""
    kind: type = np.uint16 if signs <= 16 else np.uint32  # 16 bits sort in a moment
    found: np.ndarray = np.zeros(len(vectors), kind)
    for bit, wave in enumerate(_LONGEST[:signs].tolist()):
        found |= (vectors[:, wave] > 0).astype(kind) << bit
    return found


def _buckets(vectors: np.ndarray, signs: int, faint: int) -> np.ndarray:
    """(N, 2**faint): the buckets in which each vector is looked for."""
    longest = np.abs(vectors[:, _LONGEST[:signs]].astype(np.int16))
    powers = (1 << np.argsort(longest, axis=1, kind="stable")[:, :faint]).astype(np.uint32)
    flips = powers @ np.array(list(itertools.product((0, 1), repeat=faint)), np.uint32).T
    names = _named(vectors, signs)
    return np.asarray(names[:, None] ^ flips.astype(names.dtype))
