"""What samples are compared with: one pass over the training images, a block of them in memory at a time.

Shapes: Q images that are asked about, F training images in place of samples, D features, P values of an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.dataset import tensors
from components.evaluate import measure
from components.evaluate.classifier import Moments
from components.evaluate.measure import Run
from components.evaluate.neighbours import Among, block_rows


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one pass over the training images gives."""

    nearest: Among
    """The training image nearest to each of Q images; places are those in the list of rows."""
    floor: Tensor
    """Features of the chosen training images, (F, D), in the order in which they were chosen."""
    moments: Moments
    """What the classifier learns from all of them."""


def seen(
    run: Run, pixels: Path, rows: Sequence[int], asked: Sequence[Tensor], *, features: int, floor: Sequence[int],
    classes: int,
) -> Trained:  # fmt: skip
    """Look at the training images ``rows`` of a pack once, for the images ``asked``, uint8 in runs (B, H, W, C).

    Those of one shape stand together in ``rows``.  ``floor``: places in ``rows`` of the training images whose features
    are wanted; ``features`` and ``classes``: how many there are.
    """
    images, nearest = tensors.Pixels(pixels), Among(asked, features)
    moments = Moments(classes, features)
    chosen = torch.tensor(floor, dtype=torch.int64)
    kept = torch.zeros(len(floor), features)
    block = min(block_rows(some) for some in asked)
    for first, some in _blocks(images, rows, block):
        part = f" from {first:,}" if len(rows) > block else ""
        described = measure.described_rows(run, pixels, some, f"training features{part}")
        nearest.see(images.gather(some), described, first)
        moments.add(described, images.class_ids[some])
        here = ((chosen >= first) & (chosen < first + len(some))).nonzero().flatten()
        kept[here] = described[chosen[here] - first]
    return Trained(nearest=nearest, floor=kept, moments=moments)


def _blocks(images: tensors.Pixels, rows: Sequence[int], block: int) -> Iterator[tuple[int, list[int]]]:
    """(place of the first, rows) of blocks of ``rows``, each of one shape."""
    place = 0
    for _, group in itertools.groupby(rows, images.header.shape):
        alike = list(group)
        for first in range(0, len(alike), block):
            yield place + first, alike[first : first + block]
        place += len(alike)
