"""The nearest of many images to each of some, without ever holding the many.

Shapes: Q images that are asked about, M of a block, P values of an image in 0..1, D features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

SIDE = 64
"""Pixels a side up to which images are compared as they are; larger ones by the means of their parts."""

BLOCK = 2**24
"""Values of a block of images, 64 MiB as float32."""

_BATCH = 256


def values(images_NHWC: Tensor) -> Tensor:
    """What is compared of uint8 images, (N, P) float32 in 0..1: at most 64 x 64 means of their pixels."""
    _, height, width, _ = images_NHWC.shape
    if max(height, width) <= SIDE:
        return images_NHWC.flatten(1).float() / 255
    moved = images_NHWC.permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.adaptive_avg_pool2d(moved, (min(height, SIDE), min(width, SIDE))).flatten(1)


def block_rows(images_NHWC: Tensor) -> int:
    """How many images like these make a block; at least one."""
    height, width, channels = images_NHWC.shape[1:]
    return max(1, BLOCK // (height * width * channels))


class Nearest:
    """The nearest of the images seen so far to each of Q images: root mean square difference, place and features."""

    def __init__(self, asked_QP: Tensor, features: int) -> None:
        """``features``: how many each image has."""
        self._asked = asked_QP
        count = len(asked_QP)
        self._gaps = torch.full((count,), torch.inf)
        self.rmse = torch.full((count,), torch.inf)
        self.places = torch.full((count,), -1, dtype=torch.int64)
        self.features = torch.zeros(count, features)

    def see(self, block_MP: Tensor, features_MD: Tensor, first: int) -> None:
        """Compare with a block of images whose places begin at ``first``; of equal ones the earliest counts."""
        squares = block_MP.square().sum(1)
        for at in range(0, len(self._asked), _BATCH):
            some = self._asked[at : at + _BATCH]
            gaps, which = (squares[None] - 2 * some @ block_MP.T).min(1)
            better = (gaps < self._gaps[at : at + _BATCH]).nonzero().flatten()
            which = which[better]
            self._gaps[at + better] = gaps[better]
            # From the pair itself: the gap is a small difference of large numbers.
            self.rmse[at + better] = (some[better] - block_MP[which]).square().mean(1).sqrt()
            self.places[at + better] = first + which
            self.features[at + better] = features_MD[which]

    def similarity(self, features_QD: Tensor) -> Tensor:
        """The cosine, (Q,), of the features of each image and of its nearest one."""
        return torch.nn.functional.cosine_similarity(features_QD, self.features)


class Among:
    """The nearest of the images seen so far to each of Q images in runs, each compared with those of its own shape."""

    def __init__(self, asked: Sequence[Tensor], features: int) -> None:
        """``asked``: uint8 images in runs (B, H, W, C), each of one shape; ``features``: how many each image has."""
        starts = [0, *itertools.accumulate(len(run) for run in asked)]
        self._count, self._width = starts[-1], features
        self._of: dict[tuple[int, ...], tuple[Tensor, Nearest]] = {}
        for shape in dict.fromkeys(run.shape[1:] for run in asked):
            mine = [(start, run) for start, run in zip(starts, asked, strict=False) if run.shape[1:] == shape]
            at = torch.cat([torch.arange(start, start + len(run)) for start, run in mine])
            self._of[shape] = at, Nearest(values(torch.cat([run for _, run in mine])), features)

    def see(self, images_MHWC: Tensor, features_MD: Tensor, first: int) -> None:
        """Compare with images of one shape whose places begin at ``first``; see :meth:`Nearest.see`."""
        if found := self._of.get(images_MHWC.shape[1:]):
            found[1].see(values(images_MHWC), features_MD, first)

    @property
    def rmse(self) -> Tensor:
        """The root mean square difference of each from its nearest, (Q,); infinite where none has its shape."""
        return self._gathered(torch.full((self._count,), torch.inf), "rmse")

    @property
    def places(self) -> Tensor:
        """Where the nearest of each lies, (Q,) int64; -1 where none has its shape."""
        return self._gathered(torch.full((self._count,), -1, dtype=torch.int64), "places")

    def similarity(self, features_QD: Tensor) -> Tensor:
        """The cosine, (Q,), of the features of each image and of its nearest one."""
        found = self._gathered(torch.zeros(self._count, self._width), "features")
        return torch.nn.functional.cosine_similarity(features_QD, found)

    def _gathered(self, out: Tensor, name: str) -> Tensor:
        for at, nearest in self._of.values():
            out[at] = getattr(nearest, name)
        return out
