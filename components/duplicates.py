"""Which pictures are the same, and which have the same shape: every pair is compared, in blocks.

Two measures.  *Distance*: differing bits of the 64-bit perceptual hashes, which see shape and not colour.
*Difference*: the largest difference of the 16 x 16 colour thumbnails, 0..1, which sees a skin tone.  For groups
a third one: the *correlation* of the thumbnails' luma gradients, -1..1, without which groups chain together.

All sums are of integers, so that the last bit of a float never decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components import fingerprints

_BLOCK = 256  # rows compared with all later ones at a time
_SLOPES = (fingerprints.THUMB - 1) * fingerprints.THUMB  # in each of the two directions
_PIECE = 8192  # candidate pairs whose thumbnails are compared at a time


@dataclass(frozen=True)
class Rule:
    """Same picture: distance and difference at most so much.  Same group: distance and correlation."""

    max_distance: int
    max_difference: float
    group_distance: int
    group_correlation: float


@dataclass(frozen=True)
class Pair:
    """Positions ``a`` < ``b``; ``same`` picture, or else only of one group."""

    a: int
    b: int
    distance: int
    difference: float
    same: bool


def find_pairs(hashes: np.ndarray, thumbs: np.ndarray, rule: Rule) -> list[Pair]:
    """All pairs that ``rule`` takes for the same picture or for one group, sorted.

    ``hashes`` uint64 (N,), ``thumbs`` uint8 (N, 16, 16, 3).
    """
    slopes = _slopes(thumbs)
    steepness = np.einsum("nk,nk->n", slopes, slopes, dtype=np.int64)
    pairs = []
    for a, b, distance in _candidates(hashes, max(rule.max_distance, rule.group_distance)):
        difference = np.abs(thumbs[a].astype(np.int16) - thumbs[b]).max(axis=(1, 2, 3)) / 255
        alike = _correlation(slopes, steepness, a, b) >= rule.group_correlation
        same = (distance <= rule.max_distance) & (difference <= rule.max_difference)
        wanted = same | (alike & (distance <= rule.group_distance))
        columns = (a, b, distance, difference.round(6), same)
        pairs.extend(Pair(*values) for values in zip(*(each[wanted].tolist() for each in columns), strict=True))
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


def _candidates(hashes: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(a, b, distance) of pairs at most ``most`` bits apart, a piece at a time."""
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        distances = np.bitwise_count(block[:, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(distances <= most)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        for at in range(0, len(rows), _PIECE):
            row, column = rows[at : at + _PIECE], columns[at : at + _PIECE]
            yield row + start, column + start, distances[row, column].astype(np.int64)


def _slopes(thumbs: np.ndarray) -> np.ndarray:
    """Differences of neighbouring cells' luma across and down, int32 (N, 480)."""
    luma = (thumbs.astype(np.int32) @ np.array([77, 150, 29], np.int32)) >> 8  # Rec. 601, in 256ths
    across, down = np.diff(luma, axis=2), np.diff(luma, axis=1)
    return np.concatenate([across.reshape(len(luma), _SLOPES), down.reshape(len(luma), _SLOPES)], axis=1)


def _correlation(slopes: np.ndarray, steepness: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the pairs' slopes; two flat pictures are alike, a flat one and another are not."""
    together = np.einsum("nk,nk->n", slopes[a], slopes[b], dtype=np.int64).astype(np.float64)
    scale = np.sqrt(steepness[a].astype(np.float64) * steepness[b])
    flat = (steepness[a] == 0) & (steepness[b] == 0)
    return np.where(flat, 1.0, together / np.where(scale > 0, scale, 1.0))
