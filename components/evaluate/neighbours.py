"""The nearest of many images to each of some, without ever holding the many.

Shapes: Q images that are asked about, M of a block, P values of an image in 0..1, D features.
"""

from __future__ import annotations

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
