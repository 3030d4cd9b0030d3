"""Precision and recall, density and coverage: how much of each set lies where the other has images.

Precision and recall: Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2, k = 3.  Density and coverage: Naeem et
al. 2020, arXiv:2002.09797, eq. 3 and 4, k = 5.  Shapes: N samples, M real images, D features.  Each score is the mean
of a value an image; they depend on N and M: compare them at equal numbers only.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAREST_PR, NEAREST_DC = 3, 5
"""Which neighbour sets the radius of an image's ball, for precision and recall and for density and coverage."""

_BATCH = 1024


def per_image(fake_ND: Tensor, real_MD: Tensor) -> dict[str, Tensor]:
    """The values whose means are the scores: precision (N,), recall (M,), density (N,), coverage (M,), float64.

    Precision: the sample lies in the ball of a real image.  Recall: the real image lies in the ball of a sample.
    Density: in how many balls of real images the sample lies, over k.  Coverage: the ball of the real image holds a
    sample.
    """
    fake, real = fake_ND.double(), real_MD.double()
    wide, narrow, own = radii(real, NEAREST_DC), radii(real, NEAREST_PR), radii(fake, NEAREST_PR)
    precision, density = torch.zeros(len(fake)), torch.zeros(len(fake), dtype=torch.float64)
    recall, coverage = torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for at in range(0, len(fake), _BATCH):
        far = torch.cdist(fake[at : at + _BATCH], real)
        inside = far < wide
        precision[at : at + _BATCH] = (far <= narrow).any(1).float()
        density[at : at + _BATCH] = inside.double().sum(1) / NEAREST_DC
        recall |= (far <= own[at : at + _BATCH, None]).any(0)
        coverage |= inside.any(0)
    return {"precision": precision.double(), "recall": recall.double(), "density": density,
            "coverage": coverage.double()}  # fmt: skip


def radii(images_ND: Tensor, nearest: int) -> Tensor:
    """The distance of each image to its ``nearest``-th nearest other one, (N,); to the farthest where there are fewer.

    0 for an image without others.
    """
    place = min(nearest, len(images_ND) - 1)  # the image itself is at place 0
    found = [torch.cdist(some, images_ND).kthvalue(place + 1, dim=1).values for some in images_ND.split(_BATCH)]
    return torch.cat(found)
