"""Pictures to another size as the networks that judge them expect it."""

from __future__ import annotations

import torch
from torch import Tensor


def as_tensorflow_1(pictures_NCHW: Tensor, side: int) -> Tensor:
    """Float pictures, bilinear, to ``side`` x ``side`` pixels as `tf.image.resize_bilinear` of TensorFlow 1 did.

    Pixel i of the result lies at i * old / new of the old one: not at the middles of the pixels, and without a filter
    where pictures become smaller.  FID is defined with it.
    """
    height, width = pictures_NCHW.shape[-2:]
    top, bottom, down = _between(height, side, pictures_NCHW)
    left, right, across = _between(width, side, pictures_NCHW)
    rows, below = pictures_NCHW[:, :, top], pictures_NCHW[:, :, bottom]
    above = rows[..., left] + (rows[..., right] - rows[..., left]) * across
    under = below[..., left] + (below[..., right] - below[..., left]) * across
    return above + (under - above) * down[:, None]


def _between(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two neighbours of each new pixel, and how far it lies between them, 0..1."""
    place = torch.arange(new, dtype=torch.float32, device=like.device) * torch.tensor(old / new, dtype=torch.float32)
    first = place.long()
    return first, (first + 1).clamp_max(old - 1), (place - first).to(like.dtype)
