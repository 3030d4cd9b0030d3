"""Consistency tuning: a denoiser becomes a function that jumps from any noise level to the end of the flow's path.

Easy Consistency Tuning (Geng et al. 2024, arXiv:2406.14548): D at a point of a path is pulled to what the same network,
with the weights that it has now and without a gradient, answers at a point with less noise, and the two points move
together while training goes on.  No derivative along the path is needed (as in Lu and Song 2024, arXiv:2410.11081).

Shapes: B samples of any rank, (B, C, ...), values in [-1, 1]; sigmas (B,), as each sample has its own noise level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from components.diffusion import samplers
from components.diffusion.conditions import Condition
from components.diffusion.objective import Objective, along
from components.diffusion.schedule import VISITED, Schedule

STEEP = 8.0
"""k of Geng et al. 2024, their mapping function: at low noise a pair is 1 + k / 2 times as far apart, for its level."""

LOW = VISITED[0]
"""The noise level below which a picture counts as clean."""

HUBER = 0.00054
"""c of the pseudo-Huber loss, of root mean squares: Song and Dhariwal 2023, arXiv:2310.14189, section 3.3."""


def sigmas(steps: int, schedule: Schedule) -> list[float]:
    """The falling noise levels from which a student of ``steps`` jumps, in equal steps of sigma ** (1 / 7).

    Of two jumps the second is from 4.05 where the schedule has it (Geng et al. 2024 take 0.821 for CIFAR-10).
    """
    return samplers.spaced("karras", steps + 1, schedule)[:-1]


def earlier(sigma: Tensor, gap: float | Tensor) -> Tensor:
    """r, the lower noise level of a pair whose upper one is ``sigma``; 0, the clean image, from :data:`LOW` down.

    The mapping function of Geng et al. 2024: r = sigma (1 - gap n(sigma)), n = 1 + k sigmoid(-sigma), ``gap`` 0..1.
    """
    lower = sigma * (1 - gap * (1 + STEEP * torch.sigmoid(-sigma)))
    return torch.where(lower > LOW, lower, torch.zeros_like(lower))


def answer(
    objective: Objective, network: Callable[..., Any], x: Tensor, sigma: Tensor, condition: Condition
) -> Tensor:  # fmt: skip
    """D of ``x`` at ``sigma``, and ``x`` itself where that is 0."""
    found = objective.denoise(network, x, sigma.clamp(min=LOW), condition)
    return torch.where(along(sigma, x) > 0, found, x)


def losses(
    objective: Objective, network: Callable[..., Any], x: Tensor, sigma: Tensor, target: Tensor, lower: Tensor,
    condition: Condition,
) -> Tensor:  # fmt: skip
    """How far D of ``x`` at ``sigma`` is from ``target``, by (1 + sigma) / (sigma - lower), for each sample, (B,).

    A root mean square, smooth at 0 (the adaptive weight of Geng et al. 2024 with p = 1/2).  Their weight of a noise
    level, 1 / (sigma - lower), hardly counts the high ones, from which a student of few steps jumps: see
    docs/recipe.md.
    """
    found = objective.denoise(network, x, sigma, condition)
    squared = (found - target).square().flatten(1).mean(1)
    return ((squared + HUBER**2).sqrt() - HUBER) * (1 + sigma) / (sigma - lower)
