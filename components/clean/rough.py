"""Whether two pictures may be one, cheaply: a few steps of alignment from a movement that is nearly right.

Works on luma of 16 x 16 in the coordinates -1..1 and on many pairs at once; what fits is verified by ``alignment``.
Each step solves for the affine movement that takes what is left away (Baker and Matthews 2004, inverse compositional).
"""

from __future__ import annotations

import numpy as np

from components.base.algorithms import Algorithm
from components.clean import fingerprints
from components.clean.fingerprints import SIDE

ALGORITHM = Algorithm("rough alignment", 1, ("numpy",), uses=(fingerprints.ALGORITHM,))
_HALF = SIDE // 2
_SOME = 1024  # pictures shrunk at a time
_STEPS = 2  # with more, pictures in frames run away
_DAMPED = 0.01  # of the mean curvature
_FAR = 0.5  # the largest step
_OVERLAP = 0.5  # share of the first picture that must lie on the other
_LEAST = 0.75  # correlation of slopes: of CIFAR-10's 273 known pairs that windows find 3 have less
_CELLS = ((np.arange(_HALF) + 0.5) * 2 / _HALF - 1).astype(np.float32)
_X, _Y = (each.ravel() for each in np.meshgrid(_CELLS, _CELLS))

Window = tuple[tuple[float, float], tuple[float, float]]
"""Across and down, in cells of the thumbnail."""


def between(one: Window, other: Window) -> np.ndarray:
    """The movement (2, 3), in -1..1, that lays window ``one`` of a picture on window ``other`` of another picture."""
    rows = []
    for axis in (0, 1):
        (low, high), (least, most) = ((2 * end / SIDE - 1 for end in window[axis]) for window in (one, other))
        scale = (most - least) / (high - low)
        rows.append([scale if axis == 0 else 0.0, scale if axis == 1 else 0.0, least - scale * low])
    return np.array(rows, np.float32)


def shrunk(thumbs: np.ndarray) -> np.ndarray:
    """Luma, float32 (N, 16, 16), of thumbnails uint8 (N, 32, 32, 3)."""
    out = np.empty((len(thumbs), _HALF, _HALF), np.float32)
    for start in range(0, len(thumbs), _SOME):
        grey = fingerprints.luma(thumbs[start : start + _SOME])
        out[start : start + _SOME] = grey.reshape(-1, _HALF, 2, _HALF, 2).mean(axis=(2, 4))
    return out


def fits(one: np.ndarray, other: np.ndarray, movement: np.ndarray) -> np.ndarray:
    """Whether each of ``other`` fits ``one`` (N, 16, 16) after about ``movement`` (N, 2, 3), bool (N,)."""
    down, across = (each.reshape(len(one), -1) * _HALF / 2 for each in np.gradient(one, axis=(1, 2)))
    slopes = np.stack([across * _X, across * _Y, across, down * _X, down * _Y, down], axis=1)  # N, 6, cells
    target = one.reshape(len(one), -1)
    for _ in range(_STEPS):
        moved, inside = _moved(other, movement)
        movement = _stepped(slopes, target, moved, inside, movement)
    moved, inside = _moved(other, movement)
    return np.asarray((inside.mean(axis=1) >= _OVERLAP) & (_correlation(one, moved, inside) >= _LEAST))


def _moved(pictures: np.ndarray, movement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, cells) values of ``pictures`` where ``movement`` takes each cell, and whether that is inside."""
    at = movement[:, :, :2] @ np.stack([_X, _Y]) + movement[:, :, 2:]
    inside = (np.abs(at) <= 1).all(axis=1)
    cells = np.clip((at + 1) * (_HALF / 2) - 0.5, 0, _HALF - 1.001)
    whole = cells.astype(np.int32)
    right, low = (cells - whole).transpose(1, 0, 2)
    corner = np.arange(len(pictures), dtype=np.int32)[:, None] * _HALF**2 + whole[:, 1] * _HALF + whole[:, 0]
    flat = pictures.ravel()
    upper, lower = (flat[corner + down] * (1 - right) + flat[corner + down + 1] * right for down in (0, _HALF))
    return upper * (1 - low) + lower * low, inside


def _stepped(
    slopes: np.ndarray, target: np.ndarray, moved: np.ndarray, inside: np.ndarray, movement: np.ndarray
) -> np.ndarray:
    """``movement`` after the step that takes away most of what is left, whatever brightness and contrast are."""
    count = np.maximum(inside.sum(axis=1, keepdims=True, dtype=np.float32), 1)
    x, y = ((each - (each * inside).sum(axis=1, keepdims=True) / count) * inside for each in (target, moved))
    gain = (x * y).sum(axis=1, keepdims=True) / np.maximum((y * y).sum(axis=1, keepdims=True), 1e-6)
    seen = slopes * inside[:, None]
    curvature = seen @ slopes.transpose(0, 2, 1)
    damped = _DAMPED * np.trace(curvature, axis1=1, axis2=2) / 6 + 1e-6
    step = np.linalg.solve(
        curvature + np.eye(6, dtype=np.float32) * damped[:, None, None], seen @ (gain * y - x)[:, :, None]
    )
    step = step.reshape(-1, 2, 3) * (np.abs(step).max(axis=(1, 2)) < _FAR)[:, None, None]
    bottom = np.broadcast_to(np.array([[[0, 0, 1]]], np.float32), (len(step), 1, 3))
    back = np.linalg.inv(np.concatenate([step, np.zeros_like(bottom)], axis=1) + np.eye(3, dtype=np.float32))
    return np.asarray(np.concatenate([movement, bottom], axis=1) @ back)[:, :2]


def _correlation(one: np.ndarray, moved: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Of slopes where both cells are inside, to four digits, -1..1."""
    moved, inside = moved.reshape(one.shape), inside.reshape(one.shape)
    xx, yy, xy = (np.zeros(len(one), np.float32) for _ in range(3))
    for axis in (1, 2):
        both = np.diff(inside.astype(np.int8), axis=axis, prepend=0) == 0
        both = np.take(both & inside, range(1, _HALF), axis=axis)
        x, y = (np.diff(each, axis=axis) * both for each in (one, moved))
        xx, yy, xy = xx + (x * x).sum(axis=(1, 2)), yy + (y * y).sum(axis=(1, 2)), xy + (x * y).sum(axis=(1, 2))
    return np.asarray(np.round(xy / np.sqrt(np.maximum(xx * yy, 1e-6)), 4))
