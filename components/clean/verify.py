"""Which images show the same picture: found by hash (and by embedding, when asked), then verified one by one.

A pair depends on its two images alone, and is found when the later one arrives: so adding images changes no pair
among those that are there.  ``same``: one picture, laid as it is, with the same colours; one of the two is enough.
Otherwise the two belong together (other colours, a crop, turned, mirrored) and both are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from components.base import parallel
from components.base.algorithms import Algorithm
from components.clean import alignment, fingerprints, keypoints, lists, search
from components.clean.fingerprints import SIDE

CANDIDATES = Algorithm("candidates", 4, ("numpy",), uses=(fingerprints.ALGORITHM, lists.ALGORITHM, search.ALGORITHM))
VERIFY = Algorithm(
    "verify", 2, ("numpy",), uses=(alignment.ALGORITHM, fingerprints.ALGORITHM, keypoints.ALGORITHM)
)  # fmt: skip
LARGE = 128  # px: the shorter side from which corners are looked for
_BLOCK = 4096  # images that are looked for in lists at a time
_MANY = 65_536  # codes in a task that finds their lists
_SOME = 1024  # images in a task that looks at every one before: their thumbnails are sent along
_FAR = 0.5  # of correlation: what lacks more than that is not moved about
_STRETCH = 1.06  # how much more one side may be scaled than the other; whole pixels are added to it
_SQUASHED = 1.4  # the same for photographs, which are told by more: many of CIFAR-10's known pairs are squashed
METHODS = ("", "bytes", "pixels", "correlation", "orb", "group", "withdrawn")
"""How a pair was judged: field ``how`` of VERDICT is a position in it, column ``how`` of pairs.parquet the word."""
CANDIDATE = np.dtype([("a", "<i8"), ("b", "<i8"), ("orientation", "u1"), ("distance", "<i2")])
VERDICT = np.dtype([
    ("found", "?"), ("same", "?"), ("how", "u1"), ("orientation", "u1"), ("difference", "<f8"),
    ("correlation", "<f8"), ("inliers", "<i4"),
])  # fmt: skip
"""What was seen of a candidate; ``inliers`` is -1 where corners were not looked for."""


AUTO: Literal["auto"] = "auto"
DRAWN = 32, 0.97
"""Where one of the two is a drawing on flat ground: bits, and correlation.  With less emoji chain."""
PHOTOGRAPHS = 0.8
"""Else: correlation, besides what is asked of ``alignment.Fit.even`` and ``colour``."""
_EVEN = 0.86  # known pairs of CIFAR-10 have more (all but 1 of 267), what is alike by outline less
_DENIED = 0.9  # of correlation and evenness, where corners found no movement: text may lie over most of them
_OTHER_COLOURS = 0.6, 0.92  # correlation of colours below which that much evenness is wanted


@dataclass(frozen=True)
class Rule:
    """Candidates: at most ``max_distance`` bits of 256.  Pairs: so much correlation.  Same: so little difference.

    With ``auto`` what two pictures show decides: drawings are held to DRAWN, photographs to PHOTOGRAPHS, and these
    are searched for by ``windows``.
    """

    max_distance: int | Literal["auto"]
    max_difference: float
    min_correlation: float | Literal["auto"]
    min_inliers: int
    embedding: str = "none"
    min_cosine: float = 1.0


class Look(NamedTuple):
    """One picture, for verification; ``corners`` is a record of keypoints.FEATURES or None; sizes in px."""

    thumb: np.ndarray
    width: int
    height: int
    corners: np.ndarray | None = None


Thumbs = Callable[[np.ndarray], np.ndarray]
"""The thumbnails (M, 32, 32, 3) at positions (M,)."""
Candidate = tuple[Look, Look, int, int]
"""The earlier picture, the later one, the orientation of the later, and the bits between them."""


def candidates(
    hashes: np.ndarray, thumbs: Thumbs, since: int, radius: int, drawn: np.ndarray | None = None
) -> np.ndarray:
    """CANDIDATE pairs a < b with b >= ``since``, each in the orientation of ``b`` that is nearest to ``a``.

    ``hashes`` (N, 32); ``thumbs`` are asked for from ``since`` on, some at a time.  Of the first images every one is
    looked at; the later ones look into ``lists``.  With ``drawn`` (N,) only pairs of which one is a drawing.
    """
    flags = np.ones(len(hashes), bool) if drawn is None else drawn
    found = [np.empty(0, CANDIDATE)]
    for level, first, end in lists.levels(since, len(hashes)):
        if level < 0:
            tasks = ([(hashes[:last], thumbs(np.arange(start, last)), start, flags[:last])]
                     for start in range(first, end, _SOME) for last in [min(end, start + _SOME)])  # fmt: skip
            found += [part for parts in parallel.ordered(partial(near, radius=radius), tasks) for part in parts]
        else:
            found += [_far(hashes[:end], thumbs, level, first, radius, flags)]
    return np.concatenate(found)


def near(tasks: list[tuple[np.ndarray, np.ndarray, int, np.ndarray]], *, radius: int) -> list[np.ndarray]:
    """CANDIDATE pairs of each (codes up to the end of a block, thumbnails of it, its start, which are drawn); pure."""
    found = []
    for codes, thumbs, start, drawn in tasks:
        queries = fingerprints.all_hashes(thumbs)
        found.append(_nearest(_within(queries, codes, radius, drawn[start:], drawn), len(thumbs), start))
    return found


def _within(
    queries: np.ndarray, codes: np.ndarray, radius: int, drawn: np.ndarray, among: np.ndarray
) -> search.Matches:
    """Matches of ``queries`` (8, M, 32): the ``drawn`` with all ``codes``, the others with those ``among`` them."""
    count, parts = queries.shape[1], []
    for some, others in ((np.flatnonzero(drawn), slice(None)), (np.flatnonzero(~drawn), among)):
        where = np.arange(len(codes))[others]
        match = search.within(queries[:, some].reshape(-1, codes.shape[1]), codes[others], radius)
        b = match.b // max(1, len(some)) * count + some[match.b % max(1, len(some))]
        parts.append(search.Matches(where[match.a], b, match.distance))
    return search.gathered(parts)


def _far(
    hashes: np.ndarray, thumbs: Thumbs, level: int, first: int, radius: int, drawn: np.ndarray
) -> np.ndarray:  # fmt: skip
    """The same of the images from ``first`` on, all of one level of ``lists``."""
    middles = lists.centres(hashes, level)
    codes = ([(hashes[start : start + _MANY], middles)] for start in range(0, len(hashes), _MANY))
    where = np.concatenate([part[:, 0] for parts in parallel.ordered(lists.nearest, codes) for part in parts])
    drawn, count = drawn[: len(hashes)], len(hashes) - first
    every = lists.Lists(hashes, where, len(middles), np.arange(len(hashes)))
    drawings = lists.Lists(hashes, where, len(middles), np.flatnonzero(drawn))
    waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()

    def queries() -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        for start in range(first, len(hashes), _BLOCK):
            some = np.arange(start, min(len(hashes), start + _BLOCK))
            numbers = (np.arange(8)[:, None] * count + some - first).ravel()
            waiting.append((numbers, fingerprints.all_hashes(thumbs(some)).reshape(len(numbers), -1)))
            yield [(waiting[-1][1], middles)]

    def tasks() -> Iterator[list[lists.Task]]:
        for (looked,) in parallel.ordered(lists.asked, queries()):
            numbers, asked = waiting.popleft()
            own = drawn[first + numbers % count]
            for mine, among in ((own, every), (~own, drawings)):
                for task in among.tasks(asked[mine], looked[mine], numbers[mine]):
                    yield [task]

    found = parallel.ordered(partial(lists.within, radius=radius), tasks())
    return _nearest(search.gathered([part for parts in found for part in parts]), count, first)


def _nearest(matches: search.Matches, count: int, start: int) -> np.ndarray:
    """Of each pair the orientation with the fewest bits; ``b`` counts orientations of ``count`` images from start."""
    found = np.empty(len(matches), CANDIDATE)
    found["a"], found["b"] = matches.a, matches.b % max(1, count) + start
    found["orientation"], found["distance"] = matches.b // max(1, count), matches.distance
    found = found[found["a"] < found["b"]]
    found = found[np.lexsort((found["orientation"], found["distance"], found["a"], found["b"]))]
    first = np.ones(len(found), bool)
    first[1:] = (np.diff(found["a"]) != 0) | (np.diff(found["b"]) != 0)
    return found[first]


def verify(batch: list[Candidate], *, rule: Rule) -> np.ndarray:
    """The VERDICT on each candidate; pure."""
    verdicts = np.zeros(len(batch), VERDICT)
    verdicts["inliers"] = -1
    demands = _demands(batch, rule)
    small = []
    for at, (one, other, *_) in enumerate(batch):
        if _rich(one, rule) and _rich(other, rule):
            verdicts[at] = _by_corners(one, other, rule, demands[at])
        if not verdicts[at]["found"]:
            small.append(at)
    if small:
        some, asked = [batch[at] for at in small], [demands[at] for at in small]
        denied = [bool(verdicts[at]["how"]) for at in small]
        for at, no, verdict in zip(small, denied, _by_correlation(some, rule, asked, denied), strict=True):
            if verdict["found"] or not no:
                inliers = verdicts[at]["inliers"]
                verdicts[at] = verdict
                verdicts[at]["inliers"] = inliers
    return verdicts


class _Demand(NamedTuple):
    """What is asked of one candidate; ``even`` and ``recoloured`` are of alignment.Fit.even, by Fit.colour."""

    radius: int
    correlation: float
    even: float = -1.0
    recoloured: float = -1.0
    stretch: float = _STRETCH

    def met(self, fit: alignment.Fit, *, denied: bool) -> bool:
        """Whether ``fit`` does; what corners ``denied``, only one without faults does."""
        even = self.recoloured if fit.colour < _OTHER_COLOURS[0] else self.even
        least = max(self.correlation, _DENIED) if denied else self.correlation
        return fit.correlation >= least and fit.even >= (max(even, _DENIED) if denied else even)


def _demands(batch: list[Candidate], rule: Rule) -> list[_Demand]:
    found = [_Demand(0, 0.0)] * len(batch)
    thumbs = np.stack([look.thumb for candidate in batch for look in candidate[:2]])
    drawn = np.asarray(fingerprints.drawn(thumbs)).reshape(-1, 2)
    for at, strict in enumerate((drawn[:, 0] | drawn[:, 1]).tolist()):
        demand = _Demand(*DRAWN) if strict else _Demand(-1, PHOTOGRAPHS, _EVEN, _OTHER_COLOURS[1], _SQUASHED)
        if rule.max_distance != AUTO:
            demand = demand._replace(radius=rule.max_distance)
        if rule.min_correlation != AUTO:
            demand = _Demand(demand.radius, rule.min_correlation)
        found[at] = demand
    return found


def _rich(look: Look, rule: Rule) -> bool:
    """Whether there are corners enough to say no by them."""
    return look.corners is not None and int(look.corners["count"].min()) >= 3 * rule.min_inliers


def _by_correlation(batch: list[Candidate], rule: Rule, demands: list[_Demand], denied: list[bool]) -> np.ndarray:
    """Lay each pair on each other as it is; what does not fit is moved."""
    orientation = np.array([each[2] for each in batch], np.uint8)
    one = np.stack([each[0].thumb for each in batch])
    other = alignment.turned(np.stack([each[1].thumb for each in batch]), orientation)
    verdicts = np.zeros(len(batch), VERDICT)
    verdicts["inliers"], verdicts["orientation"] = -1, orientation
    fits = alignment.still(one, other)
    met = [demand.met(fit, denied=no) for fit, demand, no in zip(fits, demands, denied, strict=True)]
    # Hashes that are near and pictures that do not fit at all: no movement mends that.
    least = [demand.correlation - _FAR if bits <= demand.radius else -1.0
             for (*_, bits), demand in zip(batch, demands, strict=True)]  # fmt: skip
    moving = [at for at, fit in enumerate(fits) if not met[at] and fit.correlation >= least[at]]
    for back in (False, True):
        if moving:
            ends = (other[moving], one[moving]) if back else (one[moving], other[moving])
            for at, fit in zip(moving, alignment.moved(*ends), strict=True):
                fits[at] = max(fits[at], fit.back() if back else fit, key=lambda each: each.correlation)
                met[at] = demands[at].met(fits[at], denied=denied[at])
        # Photographs that fit, but not evenly: the alignment may do better the other way round.
        moving = [at for at in moving if not met[at] and demands[at].even > 0
                  and fits[at].correlation >= demands[at].correlation]  # fmt: skip
    rows = zip(verdicts, fits, met, demands, batch, strict=True)
    for verdict, fit, enough, demand, (look, turned, number, _) in rows:
        size = (turned.height, turned.width) if number & 4 else (turned.width, turned.height)
        allowed = demand.stretch + 1.5 / min(look.width, look.height, turned.width, turned.height)
        found = enough and _stretch(fit.movement, (look.width, look.height), size) <= allowed
        whole = fit.movement is alignment.STILL and number == 0
        verdict["how"] = METHODS.index("correlation")
        verdict["found"], verdict["same"] = found, found and whole and fit.difference <= rule.max_difference
        verdict["difference"], verdict["correlation"] = fit.difference, fit.correlation
    return verdicts


def _by_corners(one: Look, other: Look, rule: Rule, demand: _Demand) -> np.ndarray:
    assert one.corners is not None and other.corners is not None  # both are rich
    verdict = np.zeros((), VERDICT)
    verdict["how"], verdict["correlation"], verdict["difference"] = METHODS.index("orb"), -1.0, 1.0
    sizes = (one.width, one.height), (other.width, other.height)
    match = keypoints.match(one.corners, sizes[0], other.corners, sizes[1])
    if match is None:
        return verdict
    verdict["inliers"] = match.inliers
    angle = round(np.degrees(np.arctan2(match.movement[1, 0], match.movement[0, 0])) / 90) % 4
    # How the later one is to be turned to lie on the first: mirrored first, if it is, then turned back.
    name = f"turn {360 - 90 * angle}" if angle else ""
    number = fingerprints.ORIENTATIONS.index(f"flip {name}".strip() if match.mirrored else name)
    thumb = fingerprints.seen(other.thumb[None], 1)[0] if match.mirrored else other.thumb
    scale = [np.array(size) / SIDE for size in sizes]
    movement = match.movement.copy()
    movement[:, :2] = movement[:, :2] * scale[0] / scale[1][:, None]
    movement[:, 2] = (match.movement[:, :2] @ (scale[0] * 0.5) + match.movement[:, 2]) / scale[1] - 0.5
    fit = alignment.laid(one.thumb, thumb, movement)
    direct = alignment.laid(one.thumb, other.thumb, alignment.STILL)
    verdict["orientation"], verdict["correlation"], verdict["difference"] = number, fit.correlation, fit.difference
    found = match.inliers >= rule.min_inliers and fit.correlation >= demand.correlation / 2
    still = np.abs(movement - alignment.STILL).max(axis=0) <= (0.03, 0.03, 1.0)
    whole = number == 0 and still.all() and direct.correlation >= demand.correlation
    verdict["found"], verdict["same"] = found, found and whole and direct.difference <= rule.max_difference
    if verdict["same"]:
        verdict["difference"], verdict["correlation"] = direct.difference, direct.correlation
    return verdict


def _stretch(movement: np.ndarray, size: tuple[int, int], other: tuple[int, int]) -> float:
    """How much more the movement between thumbnails scales one way than the other, in the pictures' own pixels."""
    turn = movement[:, :2] * np.array(other, np.float64)[:, None] / np.array(size, np.float64)
    large, small = np.linalg.svd(turn, compute_uv=False)
    return float(large / max(small, 1e-9))
