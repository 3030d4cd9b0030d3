"""Samplers that draw fresh noise on the way, all in x = image + sigma * noise.

Shapes: x (B, ...), of any rank.  Each takes D, x at the first of the falling ``sigmas``, ``watch`` (called with every
sigma that is reached and D there) and ``noise``: ``noise(n)`` is unit normal noise like x, other for each n; the answer
is D at the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from components.diffusion.objective import along
from components.diffusion.solvers import Denoise, Watch, extrapolated, heun_step

Noise = Callable[[int], Tensor]

CHURN, CHURN_SIGMAS = 40.0, (0.05, 50.0)
"""S_churn and [S_tmin, S_tmax] of Karras et al. 2022, table 5, ImageNet; S_noise is 1, which keeps Gaussians exact."""

SNR = 0.16
"""Signal-to-noise ratio r of a Langevin step: Song et al. 2021, arXiv:2011.13456, appendix G, CIFAR-10."""


def ancestral(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise, eta: float = 1.0
) -> Tensor:
    """DDIM with eta, 0 (no noise) to 1: Song et al. 2020, arXiv:2010.02502, equations 12 and 16.

    At eta 1 it draws from the posterior q(x_s | x_t, x_0), which is DDPM (Ho et al. 2020, arXiv:2006.11239, equations
    6, 7 and 11) and, since scaling x does not change it, ancestral sampling of the variance-exploding process too
    (Song et al. 2021, arXiv:2011.13456, equation 47): "Euler ancestral".
    """
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        now = denoise(x, sigma)
        watch(sigma, now)
        fresh = eta * following * math.sqrt(1 - (following / sigma) ** 2)
        x = torch.lerp(now, x, math.sqrt(following**2 - fresh**2) / sigma)
        if fresh:
            x = x + fresh * noise(at)
    return _last(denoise, x, sigmas, watch)


def resampled(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise, repeats: int
) -> Tensor:  # fmt: skip
    """Euler's method, each step taken ``repeats`` times, with as much fresh noise in between as it took away.

    So that what is drawn anew comes to fit what stays: RePaint, Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1.
    """
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        for again in range(repeats):
            now = denoise(x, sigma)
            x = torch.lerp(now, x, following / sigma)
            if again < repeats - 1:
                x = x + math.sqrt(sigma**2 - following**2) * noise(at * repeats + again)
        watch(sigma, now)
    return _last(denoise, x, sigmas, watch)


def dpmpp_2m_sde(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise) -> Tensor:
    """SDE-DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, section 5, in log sigma; its first step is DDPM's."""
    before, last_step = None, 0.0
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        now = denoise(x, sigma)
        watch(sigma, now)
        step, kept = math.log(sigma / following), (following / sigma) ** 2
        x = torch.lerp(extrapolated(now, before, step, last_step), x, kept)
        x = x + following * math.sqrt(1 - kept) * noise(at)
        before, last_step = now, step
    return _last(denoise, x, sigmas, watch)


def churn(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise) -> Tensor:
    """Heun's method on levels raised a little by fresh noise: Karras et al. 2022, arXiv:2206.00364, algorithm 2."""
    low, high = CHURN_SIGMAS
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        if low <= sigma <= high:
            raised = sigma * (1 + min(CHURN / (len(sigmas) - 1), math.sqrt(2) - 1))
            x = x + math.sqrt(raised**2 - sigma**2) * noise(at)
            sigma = raised
        now = denoise(x, sigma)
        watch(sigma, now)
        x = heun_step(denoise, x, now, sigma, following)
    return _last(denoise, x, sigmas, watch)


def corrector_ve(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise) -> Tensor:
    """Reverse diffusion and one Langevin step for each level, of the variance-exploding process.

    Song et al. 2021, arXiv:2011.13456, algorithms 1 and 2 (M = 1), its last answer denoised (appendix G).
    """
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        now = denoise(x, sigma)
        watch(sigma, now)
        lost = 1 - (following / sigma) ** 2
        x = torch.lerp(x, now, lost) + sigma * math.sqrt(lost) * noise(2 * at)
        x = _langevin(x, (denoise(x, following) - x) / following**2, noise(2 * at + 1), 1.0)
    return _last(denoise, x, sigmas, watch)


def corrector_vp(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise) -> Tensor:
    """The same of the variance-preserving process, alpha x: Song et al. 2021, algorithms 1 and 3 (M = 1)."""
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        now = denoise(x, sigma)
        watch(sigma, now)
        alpha, next_alpha = (1 / math.sqrt(1 + each**2) for each in (sigma, following))
        ratio = alpha / next_alpha
        beta = 1 - ratio**2
        score = (now - x) / (sigma**2 * alpha)
        y = (2 - ratio) * alpha * x + beta * score + math.sqrt(beta) * noise(2 * at)
        score = (denoise(y / next_alpha, following) - y / next_alpha) / (following**2 * next_alpha)
        x = _langevin(y, score, noise(2 * at + 1), ratio**2) / next_alpha
    return _last(denoise, x, sigmas, watch)


def consistency(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: Noise) -> Tensor:
    """Jump to the end and go back up with fresh noise: Song et al. 2023, arXiv:2303.01469, algorithm 1."""
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        now = denoise(x, sigma)
        watch(sigma, now)
        x = now + following * noise(at)
    return _last(denoise, x, sigmas, watch)


def _langevin(x: Tensor, score: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """One Langevin step (algorithms 4 and 5), its size from the norms of each picture alone, not of its batch."""
    norms = [each.flatten(1).norm(dim=1) for each in (noise, score)]
    size = along(2 * alpha * (SNR * norms[0] / norms[1].clamp(min=1e-12)) ** 2, x)
    return x + size * score + (2 * size).sqrt() * noise


def _last(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    now = denoise(x, sigmas[-1])
    watch(sigmas[-1], now)
    return now
