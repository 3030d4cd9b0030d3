"""Samplers, written once against D(x, sigma): from noise to images along falling noise levels.

Shapes: x BCHW = image + sigma * noise; sigmas fall and end above 0: the last answer of D is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""D(x, sigma), the expected clean images."""

LOW, HIGH = 0.02, 80.0
"""Ends of the noise levels that are visited, where the schedule has them."""


def levels(steps: int, low: float, high: float) -> list[float]:
    """``steps`` falling sigmas between the ends of a schedule, equally spaced in log sigma."""
    low, high = max(low, LOW), min(high, HIGH)
    if steps == 1:
        return [high]
    return torch.logspace(math.log10(high), math.log10(low), steps, dtype=torch.float64).tolist()


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Callable[[float, Tensor], object]) -> Tensor:
    """DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2, in log sigma."""
    before, last_step = None, 0.0
    for at, sigma in enumerate(sigmas):
        now = denoise(x, sigma)
        watch(sigma, now)
        if at == len(sigmas) - 1:
            return now
        step = math.log(sigma / sigmas[at + 1])
        mixed = now if before is None else now + (now - before) * (step / (2 * last_step))
        x = torch.lerp(mixed, x, sigmas[at + 1] / sigma)
        before, last_step = now, step
    raise ValueError("no noise level to start from")
