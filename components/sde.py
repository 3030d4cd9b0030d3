"""The ways from image to noise as stochastic differential equations: Song et al. 2021, arXiv:2011.13456.

dx = f(t) x dt + g(t) dw (equation 5, linear in x), t from 0, the image, to 1, noise.  At t the state is
alpha(t) * image + std(t) * unit noise (equation 29), so sigma(t) = std(t) / alpha(t) is the noise level of the rest of
the code.  Time is float64 (B,); pixels lie in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from components.diffusion.schedule import TIMESTEPS, VE_SIGMAS

BETAS = (1e-4 * TIMESTEPS, 0.02 * TIMESTEPS)
"""Ends of beta(t) of the linear process: those of a discrete step, for time 0..1 (appendix C)."""

_OFFSET = 0.008
"""s of Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17."""


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1, sigma = low (high / low)**t: equations 9 and 30."""

    low: float = VE_SIGMAS[0]
    high: float = VE_SIGMAS[1]

    def drift(self, t: Tensor) -> Tensor:
        """f(t): none."""
        return t * 0

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)**2 = d sigma**2 / dt: equation 9."""
        return 2 * math.log(self.high / self.low) * self.sigma(t) ** 2

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the image."""
        return t * 0 + 1

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level: equation 31."""
        return self.low * (self.high / self.low) ** t


@dataclass(frozen=True)
class VariancePreserving:
    """f = -beta / 2, g**2 = beta, so that alpha**2 + std**2 = 1: equation 11."""

    cosine: bool = False
    """alpha**2 is a squared cosine (Nichol and Dhariwal 2021, equation 17; t below 1) in place of beta(t) a line."""

    def drift(self, t: Tensor) -> Tensor:
        """f(t)."""
        return -self.diffusion2(t) / 2

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)**2 = beta(t): equation 32, or -d log alpha**2 / dt of the cosine."""
        if self.cosine:
            return math.pi / (1 + _OFFSET) * self._angle(t).tan()
        return BETAS[0] + t * (BETAS[1] - BETAS[0])

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the image: equation 33, or the cosine."""
        if self.cosine:
            return self._angle(t).cos() / self._angle(t * 0).cos()
        return (-(t**2) / 4 * (BETAS[1] - BETAS[0]) - t / 2 * BETAS[0]).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level: sqrt(1 / alpha**2 - 1)."""
        return (self.alpha(t) ** -2 - 1).sqrt()

    def _angle(self, t: Tensor) -> Tensor:
        return (t + _OFFSET) / (1 + _OFFSET) * math.pi / 2


Process = VarianceExploding | VariancePreserving
PROCESSES: dict[str, Process] = {
    "exponential": VarianceExploding(),
    "linear": VariancePreserving(),
    "cosine": VariancePreserving(cosine=True),
}
"""The process of which each schedule is the discrete form, by the schedule's name."""


def score(clean: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """grad log p_t at the state ``x``, from D(x / alpha, sigma) = ``clean``: Tweedie's formula (Efron 2011).

    It is (alpha * clean - x) / std**2 with std = alpha * sigma; the four broadcast.
    """
    return (alpha * clean - x) / (alpha * sigma) ** 2


def reverse_drift(process: Process, x: Tensor, score_of_x: Tensor, t: Tensor, *, noise: bool) -> Tensor:
    """dx / dt of the way back: equation 6 with ``noise`` (g dw is added), else equation 13, the probability flow."""
    return process.drift(t) * x - process.diffusion2(t) * score_of_x * (1 if noise else 0.5)
