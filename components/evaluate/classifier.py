"""A simple classifier of features: which class an image looks like, learnt from the training images in one pass.

Linear discriminant analysis with equal weight for each class (Hastie, Tibshirani and Friedman, The Elements of
Statistical Learning, 2nd edition, section 4.3), its covariance shrunk towards a multiple of the identity.
Shapes: N images, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKAGE = 0.1
"""The share of the identity in the covariance, without which more features than images give no inverse."""


class Moments:
    """The sums over training images that the classifier needs: they grow with D and C, not with the images."""

    def __init__(self, classes: int, features: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.sums = torch.zeros(classes, features, dtype=torch.float64)
        self.squares = torch.zeros(features, features, dtype=torch.float64)

    def add(self, features_ND: Tensor, class_ids_N: Tensor) -> None:
        """Add images; those of class -1, without a label, are left out."""
        known = class_ids_N >= 0
        some, ids = features_ND[known].double(), class_ids_N[known]
        self.counts += torch.bincount(ids, minlength=len(self.counts))
        self.sums.index_add_(0, ids, some)
        self.squares += some.T @ some

    def scorer(self) -> tuple[Tensor, Tensor] | None:
        """(D, C) weights and (C,) offsets; the class of the largest ``features @ weights + offsets`` is predicted.

        None when fewer than two classes have images; a class without images is never predicted.
        """
        there = self.counts > 0
        if int(there.sum()) < 2:
            return None
        means = self.sums / self.counts.clamp(min=1)[:, None]
        within = self.squares - (means * self.counts[:, None]).T @ means
        within /= max(1.0, float(self.counts.sum() - there.sum()))
        size = float(within.trace()) / len(within)
        mixed = (1 - SHRINKAGE) * within
        mixed.diagonal().add_(SHRINKAGE * size if size > 0 else 1.0)
        weights = torch.linalg.solve(mixed, means.T)
        offsets = -0.5 * (means.T * weights).sum(0)
        return weights, offsets.masked_fill(~there, -torch.inf)


def predict(scorer: tuple[Tensor, Tensor] | None, features_ND: Tensor) -> list[int | None]:
    """The class of each image; None where there is no classifier."""
    if scorer is None:
        return [None] * len(features_ND)
    weights, offsets = scorer
    found: list[int | None] = (features_ND.double() @ weights + offsets).argmax(1).tolist()
    return found
