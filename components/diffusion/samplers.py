"""Samplers by name, and the noise levels they visit; solvers.py and stochastic.py hold the arithmetic.

All are written once against D(x, sigma), in x = image + sigma * noise.  sigmas fall and end above 0: the last answer
of D is the result, so a sampler of one call a step calls D as often as there are levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.diffusion import names, solvers, stochastic
from components.diffusion.schedule import TIMESTEPS, Schedule
from components.diffusion.solvers import Denoise, Watch, dpmpp_2m

__all__ = ["SAMPLERS", "SPACINGS", "Denoise", "Sampler", "Watch", "dpmpp_2m", "draw", "log_spaced", "spaced"]

SPACINGS: dict[names.Spacing, str] = {
    "log": "equal steps of log sigma (Lu et al. 2022, arXiv:2206.00927, section 3.3)",
    "karras": "equal steps of sigma ** (1 / 7) (Karras et al. 2022, arXiv:2206.00364, equation 5)",
    "time": "equal steps of the training schedule's own time (Ho et al. 2020; a flow's time; log sigma of the others)",
}
"""How noise levels can be spaced, and who does."""

RHO = 7.0


@dataclass(frozen=True)
class Sampler:
    """One sampler: ``walk(denoise, x, sigmas, watch)``, and ``noise`` behind them when it draws some."""

    walk: Callable[..., Tensor]
    calls: int
    """Of D for each step, but for one less in the last."""
    eta: float | None = None
    """Share of the posterior's noise drawn at each step unless said otherwise; None: not to be chosen."""
    draws: bool = False
    """Whether it takes ``noise``."""


SAMPLERS: dict[names.Sampler, Sampler] = {
    "ddpm": Sampler(stochastic.ancestral, 1, eta=1.0, draws=True),
    "ddim": Sampler(stochastic.ancestral, 1, eta=0.0, draws=True),
    "euler": Sampler(solvers.euler, 1),
    "heun": Sampler(solvers.heun, 2),
    "dpmpp_2m": Sampler(solvers.dpmpp_2m, 1),
    "dpmpp_2m_sde": Sampler(stochastic.dpmpp_2m_sde, 1, draws=True),
    "unipc": Sampler(solvers.unipc, 1),
    "euler_ancestral": Sampler(stochastic.ancestral, 1, eta=1.0, draws=True),
    "churn": Sampler(stochastic.churn, 2, draws=True),
    "pc_ve": Sampler(stochastic.corrector_ve, 2, draws=True),
    "pc_vp": Sampler(stochastic.corrector_vp, 2, draws=True),
    "consistency": Sampler(stochastic.consistency, 1, draws=True),
}


def draw(
    name: names.Sampler, denoise: Denoise, x: Tensor, sigmas: Sequence[float], watch: Watch, noise: stochastic.Noise,
    eta: float | None = None,
) -> Tensor:  # fmt: skip
    """From ``x`` at the first of ``sigmas`` to clean images, by the sampler called ``name``.

    ``noise(n)`` is unit normal noise like x, other for each n; ``eta`` counts where a sampler has one.
    """
    sampler = SAMPLERS[name]
    if not sampler.draws:
        return sampler.walk(denoise, x, sigmas, watch)
    if sampler.eta is None:
        return sampler.walk(denoise, x, sigmas, watch, noise)
    return sampler.walk(denoise, x, sigmas, watch, noise, sampler.eta if eta is None else eta)


def log_spaced(steps: int, low: float, high: float) -> list[float]:
    """``steps`` falling sigmas from ``high`` to ``low``, equally spaced in log sigma."""
    if steps == 1:
        return [high]
    return torch.logspace(math.log10(high), math.log10(low), steps, dtype=torch.float64).tolist()


def spaced(kind: names.Spacing, steps: int, schedule: Schedule) -> list[float]:
    """``steps`` falling sigmas within ``schedule``, spaced as :data:`SPACINGS` tells of ``kind``."""
    if kind == "log" or steps == 1:
        return log_spaced(steps, *schedule.visited)
    low, high = schedule.visited
    if kind == "karras":
        roots = torch.linspace(high ** (1 / RHO), low ** (1 / RHO), steps, dtype=torch.float64)
        return (roots**RHO).tolist()
    known = schedule.sigmas.double().log()
    first, last = (float(_index(known, math.log(end))) for end in (high, low))
    at = torch.linspace(first, last, steps, dtype=torch.float64)
    below = at.floor().clamp(max=TIMESTEPS - 2)
    return torch.lerp(known[below.long()], known[below.long() + 1], at - below).exp().tolist()


def _index(known: Tensor, value: float) -> Tensor:
    """The index, fractions between two, at which the ascending ``known`` has ``value``."""
    above = torch.searchsorted(known, torch.tensor(value, dtype=known.dtype)).clamp(1, len(known) - 1)
    low, high = known[above - 1], known[above]
    return above - 1 + (value - low) / (high - low)
