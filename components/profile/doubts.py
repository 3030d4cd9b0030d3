"""Labels that may be wrong: those that a linear classifier of the embedding would give otherwise, left out of its own
training.

A ridge regression onto the labels has the prediction for a picture that it was not trained on in closed form, from the
diagonal of its hat matrix (Allen 1974, PRESS), so one solution stands for as many trainings as there are pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RIDGE = 1.0  # against vectors of length 1; 0.1 to 3 find nearly the same on CIFAR-10
MARGIN = 0.6  # by which another label must be ahead of the one it has; a sure prediction is 1 ahead, no idea is 0
ENOUGH = 20  # pictures of a label, of which a classifier learns something
TRUSTED = 0.5  # of the pictures that it gives a label, the share that must have it, or else it is not listened to


def doubtful(vectors: np.ndarray, labels: Sequence[str | None]) -> dict[int, str]:
    """The label that fits better, by row of ``vectors`` (N, D), where it does so clearly; pure.

    Pictures without a label, and of labels with fewer than ENOUGH pictures, are neither judged nor learnt from.
    """
    counts: dict[str, int] = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    names = sorted(name for name, count in counts.items() if count >= ENOUGH)
    rows = [row for row, label in enumerate(labels) if label is not None and counts[label] >= ENOUGH]
    if len(names) < 2:
        return {}
    own = np.array([names.index(labels[row] or "") for row in rows])
    held_out = _held_out(vectors[rows].astype(np.float64), own, len(names))
    mine = held_out[np.arange(len(rows)), own]
    held_out[np.arange(len(rows)), own] = -np.inf
    ahead, other = held_out.max(1) - mine, held_out.argmax(1)
    said = np.where(ahead > 0, other, own)
    right = np.bincount(own[said == own], minlength=len(names)) / np.maximum(np.bincount(said, minlength=len(names)), 1)
    return {rows[at]: names[other[at]] for at in np.flatnonzero((ahead > MARGIN) & (right[other] >= TRUSTED))}


def _held_out(vectors: np.ndarray, own: np.ndarray, classes: int) -> np.ndarray:
    """What a ridge regression that was trained without it says of each row, (N, classes): about 1 for its label."""
    scaled = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-3)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-9)
    targets = np.eye(classes)[own]
    base = targets.mean(0)
    targets -= base
    solved = np.linalg.solve(scaled.T @ scaled + RIDGE * np.eye(scaled.shape[1]), scaled.T)
    leverage = np.einsum("nd,dn->n", scaled, solved)[:, None]
    return (scaled @ (solved @ targets) - leverage * targets) / (1 - leverage) + base
