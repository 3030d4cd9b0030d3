"""Candidates that no hash finds, such as a crop that was mirrored too: pictures whose features lie near each other.

The features are those of components/embed/vectors.py, and torch is imported only where a picture's are not known
yet.  An image is paired with the nearest few of the images before it, so that what comes later changes no pair.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from components.base.algorithms import Algorithm
from components.clean import search
from components.decode import images
from components.decode.images import Damaged, decode
from components.embed import vectors

ALGORITHMS = {
    name: Algorithm(f"features by {name}", 1, ("numpy", "pillow"), uses=(images.ALGORITHM, algorithm))
    for name, algorithm in vectors.ALGORITHMS.items()
}
"""What ``embed`` and ``whole`` do, by the name of the embedding."""
NEAR = Algorithm("nearest features", 1, ("numpy",))
NEAREST = 8  # earlier images that a picture is compared with
_SIDES = (64, 128)  # px: the picture is scaled to the smallest that is not less than its longer side, or the last
_BLOCK = 256
_UNIT = 512  # length of a vector in whole numbers: their products add up exactly in float32, whatever the order


def embed(batch: list[tuple[bytes, str]], *, name: str) -> np.ndarray:
    """The vectors of each (bytes, matte), zero for what cannot be decoded; pure."""
    found = np.zeros(len(batch), vectors.dtype(name))
    pictures: dict[int, list] = {side: [] for side in _SIDES}
    for at, (data, matte) in enumerate(batch):
        try:
            pixels = decode(data, matte, max_pixels=2**31 - 1).pixels
        except Damaged:
            continue
        side = next((side for side in _SIDES if max(pixels.shape[:2]) <= side), _SIDES[-1])
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        pictures[side].append((at, np.asarray(picture)))
    for same in pictures.values():
        if same:
            for (at, _), vector in zip(same, vectors.embed([each for _, each in same], name=name), strict=True):
                found["vector"][at] = vector
    return found


def whole(found: np.ndarray) -> np.ndarray:
    """Unit vectors in whole numbers, float32."""
    long = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    return np.round(found / np.maximum(long, 1e-9) * _UNIT).astype(np.float32)


def near(units: np.ndarray, since: int, cosine: float) -> search.Matches:
    """Of each b >= ``since`` the nearest a < b whose cosine is at least ``cosine``; the distance is 0."""
    return search.gathered(list(_blocks(units, since, cosine)))


def _blocks(units: np.ndarray, since: int, cosine: float) -> Iterator[search.Matches]:
    for start in range(since, len(units), _BLOCK):
        end = min(len(units), start + _BLOCK)
        likeness = units[start:end] @ units[:end].T
        b, a = np.nonzero(likeness >= cosine * _UNIT * _UNIT)
        value = likeness[b, a]
        b = b + start
        a, b, value = (column[a < b] for column in (a, b, value))
        order = np.lexsort((a, -value, b))
        a, b = a[order], b[order]
        first = np.searchsorted(b, b)  # where the matches of this b begin
        few = np.arange(len(b)) - first < NEAREST
        yield search.Matches(a[few], b[few], np.zeros(int(few.sum()), np.int64))
