"""Whether two larger pictures are one: corners of the one found again in the other, all moved in the same way.

ORB (Rublee et al. 2011) on the picture and on its mirror image, matches by Hamming distance with Lowe's ratio, and
RANSAC for a movement of turning, scaling and sliding.  OpenCV seeds each RANSAC alike, so the same two pictures
always give the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from components.base.algorithms import Algorithm
from components.decode import images
from components.decode.images import Damaged, decode

ALGORITHM = Algorithm("keypoints", 1, ("numpy", "opencv-python-headless", "pillow"), uses=(images.ALGORITHM,))
"""Both halves: to find the corners of a picture and to match those of two."""
MOST = 500  # corners of a picture
_LONG = 400  # px: the longer side at which corners are looked for
FEATURES = np.dtype([
    ("count", "<u2", 2), ("xy", "<f4", (2, MOST, 2)), ("code", "u1", (2, MOST, 32)),
])  # fmt: skip
"""Corners of a picture and of its mirror image: how many, where (0..1 each way), and their codes."""
_RATIO = 0.8
_SLACK = 4.0  # px at _LONG: how far from its place a corner may be found


@dataclass(frozen=True)
class Match:
    """``inliers`` corners agree on ``movement`` (2, 3), from the first picture to the other (or its mirror), in px."""

    inliers: int
    movement: np.ndarray
    mirrored: bool


def features(batch: list[tuple[bytes, str]]) -> np.ndarray:
    """FEATURES of each (bytes, matte), none of what cannot be decoded; pure."""
    found = np.zeros(len(batch), FEATURES)
    for at, (data, matte) in enumerate(batch):
        try:
            found[at] = corners(decode(data, matte, max_pixels=2**31 - 1).pixels)
        except Damaged:
            continue
    return found


def corners(pixels: np.ndarray) -> np.ndarray:
    """The FEATURES, one record, of uint8 (H, W, 3)."""
    import cv2

    cv2.setNumThreads(1)
    whole = Image.fromarray(pixels).convert("L")
    times = _LONG / max(whole.size)
    size = max(1, round(whole.width * times)), max(1, round(whole.height * times))
    grey = np.asarray(whole.resize(size, Image.Resampling.BOX if times < 1 else Image.Resampling.BICUBIC))
    record = np.zeros((), FEATURES)
    finder = cv2.ORB.create(nfeatures=4 * MOST, fastThreshold=7, edgeThreshold=15, patchSize=31)
    for mirrored in (0, 1):
        side = np.ascontiguousarray(grey[:, ::-1] if mirrored else grey)
        points, codes = finder.compute(side, _spread(finder.detect(side, None), size))
        count = min(MOST, len(points))
        record["count"][mirrored] = count
        if count:
            record["xy"][mirrored, :count] = np.array([point.pt for point in points[:count]]) / size
            record["code"][mirrored, :count] = codes[:count]
    return record


def _spread(points: Sequence[Any], size: tuple[int, int]) -> list[Any]:
    """The strongest of ``points`` in each of 25 parts of the picture, lest a line of text on it take them all."""
    kept: dict[tuple[int, int], int] = {}
    out = []
    for point in sorted(points, key=lambda each: (-each.response, each.pt, each.octave)):
        part = int(point.pt[0] * 5 / size[0]), int(point.pt[1] * 5 / size[1])
        if kept.setdefault(part, 0) < MOST // 25:
            kept[part] += 1
            out.append(point)
    return out


def match(one: np.ndarray, size: tuple[int, int], other: np.ndarray, other_size: tuple[int, int]) -> Match | None:
    """The better of the two ways round, or None; sizes are (width, height) in px."""
    tries = [_match(one, size, other, other_size, mirrored) for mirrored in (0, 1)]
    found = [each for each in tries if each is not None]
    return max(found, key=lambda each: each.inliers) if found else None


def _match(one: np.ndarray, size: tuple, other: np.ndarray, other_size: tuple, mirrored: int) -> Match | None:
    import cv2

    cv2.setNumThreads(1)
    counts = int(one["count"][0]), int(other["count"][mirrored])
    if min(counts) < 4:
        return None
    codes = one["code"][0, : counts[0]], other["code"][mirrored, : counts[1]]
    near = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(*codes, k=2)
    good = [pair[0] for pair in near if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(good) < 4:
        return None
    start = one["xy"][0, [pair.queryIdx for pair in good]] * np.array(size, np.float32)
    end = other["xy"][mirrored, [pair.trainIdx for pair in good]] * np.array(other_size, np.float32)
    slack = _SLACK * max(other_size) / _LONG
    movement, chosen = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=slack, maxIters=2000, confidence=0.995, refineIters=10
    )
    if movement is None or not np.isfinite(movement).all():
        return None
    # Corners on one spot are one corner: a logo on two pictures is not one picture.
    spots = {tuple(spot) for spot in (start[chosen.ravel() > 0] / max(size) * 50).astype(int)}
    return Match(len(spots), movement, bool(mirrored))
