"""The noise process of the cosine schedule and its inverse, as pure functions of tensors.

Shapes: B images, C channels, H and W pixels.  Pixels lie in [-1, 1].  ``t`` are the schedule's
integer timesteps, 0 (almost clean) to 999 (noise).  ``alpha`` and ``beta`` are the shares of image
and unit noise in a noisy image, alpha**2 + beta**2 = 1; ``sigma`` = beta / alpha is the standard
deviation of the noise relative to the image, the unit in which recipes can be compared.  ``v`` =
alpha * noise - beta * image (Salimans and Ho 2022, arXiv:2202.00512, section 4) is what the network
predicts.  The schedule is diffusers' ``squaredcos_cap_v2``, so that its schedulers sample the network.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

TIMESTEPS = 1000
SIGMAS = tuple(0.05 * 400 ** (i / 7) for i in range(8))
"""Noise levels at which x0 errors are measured: 0.05 to 20, equally spaced in log sigma."""


@functools.cache
def alphas_cumprod() -> Tensor:
    """alpha**2 of each timestep, float32 (1000,), not to be changed: Nichol and Dhariwal 2021, equation 17, capped."""

    def bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((i + 1) / TIMESTEPS) / bar(i / TIMESTEPS), 0.999) for i in range(TIMESTEPS)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0)


def shares(t: Tensor) -> tuple[Tensor, Tensor]:
    """``alpha`` and ``beta`` of timesteps ``t`` (B,), as B111 on the device of ``t``."""
    squared = alphas_cumprod().to(t.device)[t].view(-1, 1, 1, 1)
    return squared.sqrt(), (1 - squared).sqrt()


def sigmas() -> Tensor:
    """``sigma`` of each timestep, ascending, float32 (1000,)."""
    squared = alphas_cumprod()
    return ((1 - squared) / squared).sqrt()


def timestep_of(sigma: float) -> int:
    """The timestep whose sigma is nearest to ``sigma`` in the logarithm."""
    return int((sigmas().log() - math.log(sigma)).abs().argmin())


def add_noise(image_BCHW: Tensor, noise_BCHW: Tensor, t: Tensor) -> Tensor:
    """The noisy images at ``t``."""
    alpha, beta = shares(t)
    return alpha * image_BCHW + beta * noise_BCHW


def velocity(image_BCHW: Tensor, noise_BCHW: Tensor, t: Tensor) -> Tensor:
    """What the network should predict for :func:`add_noise` of the same arguments."""
    alpha, beta = shares(t)
    return alpha * noise_BCHW - beta * image_BCHW


def image_from(velocity_BCHW: Tensor, noisy_BCHW: Tensor, t: Tensor) -> Tensor:
    """The clean images ("x0") that a predicted velocity stands for."""
    alpha, beta = shares(t)
    return alpha * noisy_BCHW - beta * velocity_BCHW


def noise_from(velocity_BCHW: Tensor, noisy_BCHW: Tensor, t: Tensor) -> Tensor:
    """The noise that a predicted velocity stands for."""
    alpha, beta = shares(t)
    return beta * noisy_BCHW + alpha * velocity_BCHW


def level_edges() -> list[float]:
    """The 9 edges (sigma) of the 8 levels: midway, in log sigma, between neighbours of :data:`SIGMAS`."""
    inner = [math.sqrt(low * high) for low, high in itertools.pairwise(SIGMAS)]
    every = sigmas()
    return [float(every[0]), *inner, float(every[-1])]


def level_of(t: Tensor) -> Tensor:
    """The level, 0 to 7, of each timestep (B,)."""
    inner = torch.tensor(level_edges()[1:-1], device=t.device)
    return torch.bucketize(sigmas().to(t.device)[t], inner)
