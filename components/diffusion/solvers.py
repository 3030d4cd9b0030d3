"""Samplers that draw no noise on the way: solvers of the probability flow dx / dsigma = (x - D) / sigma.

Shapes: x (B, ...), of any rank, is image + sigma * noise.  Each takes D, x at the first of the falling ``sigmas``, and
``watch``, which is called with every sigma that is reached and D there; the answer is D at the last sigma.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""D(x, sigma), the expected clean images."""

Watch = Callable[[float, Tensor], object]


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    """Euler's method: Karras et al. 2022, arXiv:2206.00364, algorithm 1 without lines 6 to 8.

    In these coordinates it is DDIM at eta 0: Song et al. 2020, arXiv:2010.02502, equation 13.
    """
    for sigma, following in itertools.pairwise(sigmas):
        now = denoise(x, sigma)
        watch(sigma, now)
        x = torch.lerp(now, x, following / sigma)
    return _last(denoise, x, sigmas, watch)


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    """Heun's method, two calls a step but for the last: Karras et al. 2022, arXiv:2206.00364, algorithm 1."""
    for sigma, following in itertools.pairwise(sigmas):
        now = denoise(x, sigma)
        watch(sigma, now)
        x = heun_step(denoise, x, now, sigma, following)
    return _last(denoise, x, sigmas, watch)


def heun_step(denoise: Denoise, x: Tensor, now: Tensor, sigma: float, following: float) -> Tensor:
    """From ``sigma``, where D is ``now``, to ``following``, by the mean of the slopes at both ends."""
    slope = (x - now) / sigma
    ahead = x + (following - sigma) * slope
    slope_ahead = (ahead - denoise(ahead, following)) / following
    return x + (following - sigma) / 2 * (slope + slope_ahead)


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    """DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2, in log sigma."""
    before, last_step = None, 0.0
    for sigma, following in itertools.pairwise(sigmas):
        now = denoise(x, sigma)
        watch(sigma, now)
        step = math.log(sigma / following)
        x = torch.lerp(extrapolated(now, before, step, last_step), x, following / sigma)
        before, last_step = now, step
    return _last(denoise, x, sigmas, watch)


def extrapolated(now: Tensor, before: Tensor | None, step: float, last_step: float) -> Tensor:
    """D in the middle of a step of log sigma, in a line through this and the last answer."""
    return now if before is None else now + (now - before) * (step / (2 * last_step))


def unipc(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    """UniPC-2: Zhao et al. 2023, arXiv:2302.04867, algorithm 1 with data prediction and B(h) = exp(h) - 1.

    A step's answer first corrects the place it was asked at (UniC), then leads on (UniP): one call a step.
    """
    origin, now, before, step, last_step = x, None, None, 0.0, 0.0
    for at, sigma in enumerate(sigmas):
        here = denoise(x, sigma)
        watch(sigma, here)
        if at == len(sigmas) - 1:
            return here
        if now is not None:  # UniC: from the origin again, now that D at the end of the step is known
            x = _corrected(origin, (before, now, here), step, last_step)
            before, last_step = now, step
        origin, now, step = x, here, math.log(sigma / sigmas[at + 1])
        x = torch.lerp(extrapolated(now, before, step, last_step), x, math.exp(-step))
    raise ValueError("no noise level to start from")


def _corrected(x: Tensor, known: tuple[Tensor | None, Tensor, Tensor], step: float, last_step: float) -> Tensor:
    """``x`` one step on, by D before the step, at its start and at its end.

    UniC-2 (equation 3) solves exactly for the parabola of log sigma through the three, UniC-1 takes the mean of two.
    """
    before, now, here = known
    kept = math.exp(-step)
    level, change = -math.expm1(-step), here - now  # the weight of D, were it as at the start
    x = torch.lerp(now, x, kept)
    if before is None:
        return x + level / 2 * change
    first = step - level  # the weights of a slope and of a curve of D over the step
    second = step**2 - 2 * first
    curve = (change / step + (before - now) / last_step) / (step + last_step)
    return x + first * (change / step - curve * step) + second * curve


def _last(denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch) -> Tensor:
    if not sigmas:
        raise ValueError("no noise level to start from")
    now = denoise(x, sigmas[-1])
    watch(sigmas[-1], now)
    return now
