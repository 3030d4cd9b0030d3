"""The shapes (aspect buckets) that pictures are brought to, and which one each picture gets.

As NovelAI published it in 2022 and most trainers do since: shapes of about one area whose sides are multiples of a
step; a picture goes to the shape whose aspect is nearest to its own, by the ratio of the two.  Shapes are
(height, width).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.resize.params import BucketParams

Size = tuple[int, int]


def shapes(side: int, params: BucketParams) -> list[Size]:
    """All shapes, from the tallest to the widest; the square of ``side`` pixels is among them.

    For each short side that is a multiple of the step, the longest other one with which the area is at most side x
    side: what fits into memory as a square fits in any shape.  No two have the same aspect.
    """
    found = []
    for short in range(params.step, side + 1, params.step):
        long = side * side // short // params.step * params.step
        if long <= short * params.max_aspect:
            found.append((long, short))
    return found + [(short, long) for long, short in reversed(found) if long != short]


def nearest(sizes: Sequence[Size], known: Sequence[Size]) -> list[int]:
    """The place in ``known`` of the shape nearest to each of ``sizes`` (height, width): of two the squarer one.

    Nearest: the smallest ratio of the two aspects, the greater over the smaller, which is the smallest difference of
    their logarithms.
    """
    squarest_first = sorted(range(len(known)), key=lambda at: (max(known[at]) / min(known[at]), at))
    ordered = np.array([known[at] for at in squarest_first], np.int64)
    unique, which = np.unique(np.array(sizes, np.int64).reshape(-1, 2), axis=0, return_inverse=True)
    # Products of whole numbers are exact, and a quotient is rounded alike on every machine; a logarithm need not be.
    across, down = (unique[:, one, None] * ordered[None, :, other] for one, other in ((0, 1), (1, 0)))
    ratio = np.maximum(across, down) / np.minimum(across, down)
    chosen = np.array(squarest_first)[ratio.argmin(1)]
    return [int(at) for at in chosen[which.reshape(-1)]]


def usual(known: Sequence[Size]) -> Size:
    """The squarest of ``known``, which is drawn unless another is asked for; of two the first."""
    return min(known, key=lambda size: max(size) / min(size))


def kept_share(size: Size, shape: Size) -> float:
    """The share, 0..1, of a picture of ``size`` that is left when it is cut to the aspect of ``shape``."""
    aspects = [height / width for height, width in (size, shape)]
    return min(aspects) / max(aspects)
