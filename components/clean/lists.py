"""Which binary codes lie near each other among millions: each code lies in the list of the centre nearest to it, and is
looked for in the lists of the centres nearest to itself.  That is not exact.

There are more lists the more codes there are, as the root of their number, so that a search takes so much longer and
no more.  How a code is searched for depends on its place in the order of arrival alone, and the centres are codes that
came before: so the same codes have the same matches in however many goes they come.

Lists are independent of each other: a task is some of them, with what is looked for in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from components.base.algorithms import Algorithm
from components.clean import search
from components.clean.search import Matches

ALGORITHM = Algorithm("lists", 1, ("faiss-cpu", "numpy"), uses=(search.ALGORITHM,))
FLAT = 100_000  # codes up to which every one is looked at
_GROWTH = 4  # times as many codes have twice as many lists
_LISTS = 1024  # of the codes from FLAT on
_PROBES = 128  # lists that a code is looked for in
_MOST = 131_072  # codes in a task


def levels(first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(level, first, end) of the codes from ``first`` to ``end`` that are searched for alike; -1 is the level of those
    that are compared with every one before them."""
    level, start, stop = -1, 0, FLAT
    while start < end:
        if max(first, start) < min(end, stop):
            yield level, max(first, start), min(end, stop)
        level, start, stop = level + 1, stop, stop * _GROWTH


def centres(codes: np.ndarray, level: int) -> np.ndarray:
    """The centres of the lists of ``level``: some of the codes that came before it."""
    before = FLAT * _GROWTH**level
    return codes[np.linspace(0, before - 1, min(before, _LISTS * 2**level)).astype(np.int64)]


def nearest(tasks: list[tuple[np.ndarray, np.ndarray]], *, probes: int = 1) -> list[np.ndarray]:
    """The lists, int32 (N, probes), of the centres nearest to each code, of (codes, centres); pure."""
    import faiss

    faiss.omp_set_num_threads(1)
    found = []
    for codes, middles in tasks:
        index = faiss.IndexBinaryFlat(middles.shape[1] * 8)
        index.add(np.ascontiguousarray(middles))
        found.append(index.search(np.ascontiguousarray(codes), min(probes, len(middles)))[1].astype(np.int32))
    return found


def asked(tasks: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """The lists, int32 (N, P), that each code is looked for in, of (codes, centres); pure."""
    return nearest(tasks, probes=_PROBES)


class Task(NamedTuple):
    """Some lists, one after the other, and the codes that are looked for in them."""

    codes: np.ndarray
    numbers: np.ndarray
    """Whose the codes are."""
    edges: np.ndarray
    """Where each list begins in ``codes``, and the last one ends."""
    queries: np.ndarray
    names: np.ndarray
    """What each query is called."""
    queue: np.ndarray
    """Which of the queries are looked for, list by list."""
    ends: np.ndarray
    """Where each list begins in ``queue``, and the last one ends."""


class Lists:
    """The codes of some images in their lists: ``where`` (N,) is the list of each of ``codes``."""

    def __init__(self, codes: np.ndarray, where: np.ndarray, count: int, among: np.ndarray) -> None:
        self._codes = codes
        self._order = among[np.argsort(where[among], kind="stable")].astype(np.int32)
        self._edges = np.searchsorted(where[self._order], np.arange(count + 1))

    def tasks(self, queries: np.ndarray, lists: np.ndarray, names: np.ndarray) -> Iterator[Task]:
        """The search for ``queries`` (M, bytes), called ``names`` (M,), each in its ``lists`` (M, P)."""
        if not len(queries) or not len(self._order):
            return
        flat = lists.ravel().astype(np.uint16 if len(self._edges) <= 2**16 else np.uint32)  # 16 bits sort in a moment
        queue = np.argsort(flat, kind="stable")
        ends = np.searchsorted(flat[queue], np.arange(len(self._edges)))
        queue = queue // lists.shape[1]
        low = 0
        while low < len(self._edges) - 1:
            most = self._edges[low] + _MOST
            high = max(low + 1, int(np.searchsorted(self._edges, most, side="right")) - 1)
            rows, ask = slice(self._edges[low], self._edges[high]), slice(ends[low], ends[high])
            wanted, which = np.unique(queue[ask], return_inverse=True)
            numbers = self._order[rows]
            yield Task(self._codes[numbers], numbers, self._edges[low : high + 1] - rows.start, queries[wanted],
                       names[wanted], which.astype(np.int32), ends[low : high + 1] - ask.start)  # fmt: skip
            low = high


def within(tasks: list[Task], *, radius: int) -> list[Matches]:
    """Queries (``b``, by their names) and codes (``a``) at most ``radius`` bits apart, of each task; pure."""
    found = []
    for task in tasks:
        parts = []
        edges, ends = task.edges.tolist(), task.ends.tolist()
        for number in range(len(edges) - 1):
            rows, who = slice(edges[number], edges[number + 1]), task.queue[ends[number] : ends[number + 1]]
            match = search.within(task.queries[who], task.codes[rows], radius)
            if len(match):
                parts.append(Matches(task.numbers[rows][match.a].astype(np.int64), task.names[who[match.b]],
                                     match.distance))  # fmt: skip
        found.append(search.gathered(parts))
    return found
