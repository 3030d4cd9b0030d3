"""What samples are compared with: one pass over the training images, a block of them in memory at a time.

Shapes: Q images that are asked about, F training images in place of samples, D features, P values of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.dataset import tensors
from components.evaluate import measure
from components.evaluate.classifier import Moments
from components.evaluate.measure import Run
from components.evaluate.neighbours import Nearest, block_rows, values


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one pass over the training images gives."""

    nearest: Nearest
    """The training image nearest to each of Q images; places are those in the list of rows."""
    floor: Tensor
    """Features of the chosen training images, (F, D), in the order in which they were chosen."""
    moments: Moments
    """What the classifier learns from all of them."""


def seen(
    run: Run, pixels: Path, rows: Sequence[int], asked: Tensor, *, features: int, floor: Sequence[int], classes: int
) -> Trained:
    """Look at the training images ``rows`` of a pack once, for the images ``asked``, uint8 QHWC.

    ``floor``: places in ``rows`` of the training images whose features are wanted; ``features`` and ``classes``:
    how many there are.
    """
    images, nearest = tensors.Pixels(pixels), Nearest(values(asked), features)
    moments = Moments(classes, features)
    chosen = torch.tensor(floor, dtype=torch.int64)
    kept = torch.zeros(len(floor), features)
    block = block_rows(asked)
    for first in range(0, len(rows), block):
        some = rows[first : first + block]
        part = f" from {first:,}" if len(rows) > block else ""
        described = measure.described_rows(run, pixels, some, f"training features{part}")
        nearest.see(values(images.gather(some)), described, first)
        moments.add(described, images.class_ids[some])
        here = ((chosen >= first) & (chosen < first + len(some))).nonzero().flatten()
        kept[here] = described[chosen[here] - first]
    return Trained(nearest=nearest, floor=kept, moments=moments)
