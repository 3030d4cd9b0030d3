"""Noise schedules: which noise levels there are, and the timestep that stands for each.

``sigma`` is the standard deviation of the noise relative to the image: every noisy image is, up to a factor, image +
sigma * unit noise, pixels in [-1, 1].  Whatever the schedule, that is the unit in which the rest of the code speaks.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from components.diffusion import names

TIMESTEPS = 1000
"""Of the discrete schedules, and a flow's timestep is its time, 0..1, times this."""

SIGMAS = tuple(0.05 * 400 ** (i / 7) for i in range(8))
"""Noise levels at which x0 errors are measured: 0.05 to 20, equally spaced in log sigma."""

BANDS = len(SIGMAS)
"""Bands of noise levels, one around each of SIGMAS, by which training's losses are summed up."""

VE_SIGMAS = (0.02, 100.0)
"""Ends of the exponential schedule: Song et al. 2021, arXiv:2011.13456, appendix C, 32 px, 0.01 to 50 for pixels in
[0, 1], as score models and their pipeline in diffusers have them; twice that for pixels in [-1, 1]."""

EDM_SIGMAS = (0.002, 80.0)
"""Ends of Karras et al. 2022, arXiv:2206.00364, table 1."""


ENDS: dict[str, tuple[float, float]] = {"exponential": VE_SIGMAS, "log_normal": EDM_SIGMAS}
"""Ends of sigma of the schedules that could have others."""

ENDS_RANGE = (1e-6, 1e6)
"""Of the ends that can be computed with: float32 holds the squares."""

VISITED = (0.02, 80.0)
"""Ends of the noise levels that samplers visit, where the schedule has them."""


@dataclass(frozen=True)
class Schedule:
    """One of the five; see :func:`schedule`."""

    name: names.Schedule
    ends: tuple[float, float] | None = None
    """Smallest and largest sigma, where they could be others: those of :data:`ENDS`, or of a model that was begun
    elsewhere."""

    @property
    def discrete(self) -> bool:
        """Whether it is 1,000 timesteps of a variance-preserving process."""
        return self.name in ("linear", "cosine")

    @functools.cached_property
    def sigmas(self) -> Tensor:
        """Sigma of each of 1,000 steps, ascending, float32 (1000,); of a continuous one, equal steps of what it is
        continuous in: log sigma, or a flow's time.  On the CPU, also where a network is built on another device."""
        if self.discrete:
            squared = alphas_cumprod(self.name)
            return ((1 - squared) / squared).sqrt()
        if self.name == "logit_normal":
            time = torch.arange(1, TIMESTEPS + 1, dtype=torch.float64, device="cpu") / (TIMESTEPS + 1)
            return (time / (1 - time)).float()
        assert self.ends is not None, "schedule() has set it"
        low, high = (math.log10(end) for end in self.ends)
        return torch.logspace(low, high, TIMESTEPS, dtype=torch.float64, device="cpu").float()

    @property
    def low(self) -> float:
        """The smallest sigma."""
        return float(self.sigmas[0])

    @property
    def high(self) -> float:
        """The largest sigma."""
        return float(self.sigmas[-1])

    @property
    def own_ends(self) -> tuple[float, float] | None:
        """Its ends where they are not those of its paper, else None."""
        return None if self.ends == ENDS.get(self.name) else self.ends

    @property
    def visited(self) -> tuple[float, float]:
        """The smallest and the largest sigma that samplers visit; from its own largest where it has ends of its own."""
        low, high = VISITED
        return max(self.low, low), self.high if self.own_ends else min(self.high, high)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep of ``sigma`` (B,) for the network, float32 (B,): the number that diffusers' schedulers give.

        Discrete: the timestep, fractions between two by log sigma. Exponential: sigma for pixels in [0, 1].
        Log-normal: log(sigma) / 4 (Karras et al. 2022, table 1). Logit-normal: 1,000 times the flow's time
        sigma / (1 + sigma).
        """
        if self.name == "exponential":
            return sigma.float() / 2
        if self.name == "log_normal":
            return sigma.float().log() / 4
        if self.name == "logit_normal":
            return TIMESTEPS * (sigma / (1 + sigma)).float()
        table = self._log_sigmas(sigma.device)
        value = sigma.double().log().clamp(table[0], table[-1])
        at = torch.searchsorted(table, value).clamp(1, TIMESTEPS - 1)
        low, high = table[at - 1], table[at]
        return (at - 1 + (value - low) / (high - low)).float()

    def sigma_of(self, timestep: Tensor) -> Tensor:
        """The sigma of ``timestep`` (B,), float32 (B,): the inverse of :meth:`timestep`."""
        if self.name == "exponential":
            return 2 * timestep.float()
        if self.name == "log_normal":
            return (4 * timestep.float()).exp()
        if self.name == "logit_normal":
            time = (timestep.float() / TIMESTEPS).clamp(
                max=TIMESTEPS / (TIMESTEPS + 1)
            )  # some begin at 1: no image at all
            return time / (1 - time)
        table = self._log_sigmas(timestep.device).float()
        below = timestep.float().clamp(0, TIMESTEPS - 1).floor().clamp(max=TIMESTEPS - 2)
        at = below.long()
        return torch.lerp(table[at], table[at + 1], timestep.float() - below).exp()

    def _log_sigmas(self, device: torch.device) -> Tensor:
        """Of each step, float64; kept for each device, since a copy at every call would make a GPU wait."""
        if device not in self._tables:
            self._tables[device] = self.sigmas.double().log().to(device)
        return self._tables[device]

    @functools.cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        return {}


def schedule(name: names.Schedule, ends: tuple[float, float] | None = None) -> Schedule:
    """The schedule of that name; equal ones are one object.

    ``ends``: the smallest and the largest sigma of an exponential or log-normal one, in :data:`ENDS_RANGE`, None for
    those of the paper; ValueError where there is no such schedule.

    ``linear``: Ho et al. 2020, arXiv:2006.11239, section 4; ``cosine``: Nichol and Dhariwal 2021, arXiv:2102.09672,
    equation 17; ``exponential``: geometric sigmas, Song et al. 2021, arXiv:2011.13456, equation 31; ``log_normal``:
    Karras et al. 2022, arXiv:2206.00364; ``logit_normal``: Esser et al. 2024, arXiv:2403.03206, equation 19.
    """
    if ends is not None:
        least, most = ENDS_RANGE
        if name not in ENDS or not least <= ends[0] < ends[1] <= most:
            raise ValueError(f"noise levels of a schedule {name} from {ends[0]:g} to {ends[1]:g}")
    return _schedule(name, ends or ENDS.get(name))


@functools.cache
def _schedule(name: names.Schedule, ends: tuple[float, float] | None) -> Schedule:
    return Schedule(name, ends)


@functools.cache
def alphas_cumprod(name: str) -> Tensor:
    """alpha**2 of each timestep of a discrete schedule, float32 (1000,), not to be changed; as diffusers has it."""
    if name == "linear":
        betas = torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float32, device="cpu")
    else:

        def bar(time: float) -> float:
            return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = torch.tensor(
            [min(1 - bar((i + 1) / TIMESTEPS) / bar(i / TIMESTEPS), 0.999) for i in range(TIMESTEPS)],
            dtype=torch.float32,
            device="cpu",
        )
    return torch.cumprod(1.0 - betas, dim=0)


@dataclass(frozen=True)
class SigmaDistribution:
    """The distribution of the noise levels, sigma, in training.

    ``schedule``: each of the schedule's steps alike. ``uniform``: a flow's time sigma / (1 + sigma) is uniform.
    ``normal``: log sigma is normal with ``mean`` and ``std``; since the logit of a flow's time is log sigma, the
    log-normal distribution of Karras et al. 2022 (-1.2, 1.2) and the logit-normal one of Esser et al. 2024 (0, 1)
    both are of this kind.
    """

    kind: names.Distribution
    mean: float = 0.0
    std: float = 1.0

    def sigma(self, share: Tensor, of: Schedule) -> Tensor:
        """The sigma, float32 (B,), below which ``share`` (B,), 0..1, of the distribution lies; both on the CPU.

        It is clamped to the ends of the schedule ``of``.
        """
        share = share.double()
        if self.kind == "schedule":
            return of.sigmas[(share * TIMESTEPS).long().clamp_(0, TIMESTEPS - 1)]
        if self.kind == "uniform":
            sigma = share / (1 - share)
        else:
            sigma = (self.mean + self.std * torch.special.ndtri(share)).exp()
        return sigma.clamp(of.low, of.high).float()


def band_edges(low: float, high: float) -> list[float]:
    """The 9 edges (sigma) of the 8 bands: midway, in log sigma, between neighbours of :data:`SIGMAS`."""
    inner = [math.sqrt(one * two) for one, two in itertools.pairwise(SIGMAS)]
    return [min(low, inner[0]), *inner, max(high, inner[-1])]


def band_of(sigma: Tensor) -> Tensor:
    """The band, 0 to 7, of each ``sigma`` (B,)."""
    return torch.bucketize(sigma, _inner_edges(sigma.device))


@functools.cache
def _inner_edges(device: torch.device) -> Tensor:
    """The edges between the bands; kept for each device, since a copy at every step would make a GPU wait."""
    return torch.tensor(band_edges(0, math.inf)[1:-1], device=device)
