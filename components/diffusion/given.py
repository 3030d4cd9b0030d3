"""Samples that begin from given pictures: changed as a whole, or drawn anew in a part of them.

Shapes: images (B, ...) in the network's values; x (B, ...) is image + sigma * noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from components.diffusion.solvers import Denoise


@dataclass(frozen=True)
class Given:
    """What to begin from."""

    images: Tensor
    strength: float
    """Share of the steps that are taken, above 0 and at most 1: the lower, the nearer to what is given."""
    anew: Tensor | None = None
    """1 where pictures are drawn anew, 0 where they stay, in a shape that goes with that of images; None: 1."""
    repeats: int = 1
    """How often each step is taken where a part stays (:func:`.stochastic.resampled`)."""

    def of(self, rows: Sequence[int]) -> Given:
        """The same for the pictures ``rows``; ``anew`` counts for all."""
        return replace(self, images=self.images[list(rows)])

    def levels(self, sigmas: Sequence[float]) -> tuple[float, ...]:
        """The last of ``sigmas``, one at least: those steps are taken."""
        return tuple(sigmas[-max(1, math.ceil(round(self.strength * len(sigmas), 6))) :])

    def begin(self, denoise: Denoise, noise: Tensor, sigma: float) -> tuple[Denoise, Tensor]:
        """D, and x at ``sigma``, of unit ``noise``: SDEdit, Meng et al. 2022, arXiv:2108.01073, algorithm 1.

        Where pictures stay, D is the given image, and x that image with the same noise at every sigma: the imputation
        of Song et al. 2021, arXiv:2011.13456, appendix I.2, written for D, so that it holds for every sampler.
        """
        images = self.images.to(noise.device)
        start = images + sigma * noise
        if self.anew is None:
            return denoise, start
        drawn = self.anew.to(noise.device).expand_as(images).bool()

        def kept(x: Tensor, at: float) -> Tensor:
            found = denoise(torch.where(drawn, x, images + at * noise), at)
            return torch.where(drawn, found, images.to(found.dtype))

        return kept, start
