"""Objectives: what a network predicts, and the one thing that it stands for, D(x, sigma).

D(x, sigma) is the expected clean image of x = image + sigma * unit noise.  Every objective is
D = c_skip * x + c_out * F(c_in * x + c_shift, timestep) with F the network (Karras et al. 2022, arXiv:2206.00364,
equation 7; c_shift is 0 but for score models), so training, validation, evaluation and samplers are written once
against D.

Shapes: B samples of any rank, (B, ...), images with pixels in [-1, 1] among them; sigma (B,), above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.diffusion import names
from components.diffusion.conditions import LABEL, MASK, TEXT, TOKENS, Condition
from components.diffusion.names import Weighting
from components.diffusion.schedule import Schedule, SigmaDistribution, schedule
from components.samples.spec import number

SIGMA_DATA = 0.5
"""sigma_data of Karras et al. 2022, table 1, and of objectives that do not say theirs."""

SIGMA_DATA_RANGE = (1e-6, 1e6)
"""What can be computed with: float32 holds the squares."""

MIN_SNR = 5.0
"""gamma of Hang et al. 2023, arXiv:2303.09556, equation 5."""


@dataclass(frozen=True)
class Objective:
    """``kind`` on ``schedule``: what the network predicts and which timestep stands for a noise level.

    ``eps``: the noise (Ho et al. 2020); on the exponential schedule the score of pixels in [0, 1], -noise / (sigma / 2)
    (Song et al. 2021, equation 7).
    ``x0``: the clean image. ``v``: alpha * noise - beta * image (Salimans and Ho 2022, arXiv:2202.00512, section 4).
    ``edm``: Karras et al. 2022, table 1. ``flow``: noise - image (Liu et al. 2022, arXiv:2209.03003, equation 1).
    """

    kind: names.Objective
    schedule: Schedule
    sigma_data: float = SIGMA_DATA
    """Standard deviation of the values, which the EDM preconditioning and two weightings assume."""

    def c_in(self, sigma: Tensor) -> Tensor:
        """Factor of the network's input."""
        if self.kind == "edm":
            return (sigma**2 + self.sigma_data**2).rsqrt()
        if self.kind == "flow":
            return 1 / (1 + sigma)
        if self._score:
            return torch.full_like(sigma, 0.5)
        return (1 + sigma**2).rsqrt()

    @property
    def c_shift(self) -> float:
        """Added to the network's input: pixels in [0, 1] for score models, as ScoreSdeVePipeline has them."""
        return 0.5 if self._score else 0.0

    @property
    def _score(self) -> bool:
        return self.schedule.name == "exponential"

    def c_skip(self, sigma: Tensor) -> Tensor:
        """Share of the noisy image in D."""
        if self.kind == "eps":
            return torch.ones_like(sigma)
        if self.kind == "x0":
            return torch.zeros_like(sigma)
        if self.kind == "v":
            return 1 / (1 + sigma**2)
        if self.kind == "edm":
            return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
        return 1 / (1 + sigma)

    def c_out(self, sigma: Tensor) -> Tensor:
        """Factor of the network's output in D."""
        if self.kind == "eps":
            return sigma**2 / 2 if self._score else -sigma
        if self.kind == "x0":
            return torch.ones_like(sigma)
        if self.kind == "v":
            return -sigma * (1 + sigma**2).rsqrt()
        if self.kind == "edm":
            return sigma * self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()
        return -sigma / (1 + sigma)

    def own_distribution(self) -> SigmaDistribution:
        """The distribution of sigma that the paper behind the schedule trains on."""
        if self.kind == "edm":
            return SigmaDistribution("normal", -1.2, 1.2)
        if self.kind == "flow":
            return SigmaDistribution("normal", 0.0, 1.0)
        return SigmaDistribution("schedule")

    def denoise(self, network: Callable[..., Any], noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """D of ``noisy`` = image + sigma * noise, float32; ``network`` as :func:`call` takes it."""
        at = along(sigma.float(), noisy)
        predicted = call(network, self.c_in(at) * noisy + self.c_shift, self.schedule.timestep(sigma), condition)
        return self.c_skip(at) * noisy + self.c_out(at) * predicted.float()

    def loss(
        self, network: Callable[..., Any], image: Tensor, noise: Tensor, sigma: Tensor,
        condition: Condition, weighting: Weighting,
    ) -> Tensor:  # fmt: skip
        """Weighted squared error for each sample, (B,): weight(sigma) * mean |D - image|**2.

        It is computed on the network's own output, whose scale does not depend on sigma (but for scores).
        """
        at = along(sigma.float(), image)
        noisy = image + at * noise
        predicted = call(network, self.c_in(at) * noisy + self.c_shift, self.schedule.timestep(sigma), condition)
        wanted = (image - self.c_skip(at) * noisy) / self.c_out(at)
        squared = (predicted.float() - wanted).square().mean(tuple(range(1, image.dim())))
        if weighting == "plain" and not self._score:
            return squared
        return squared * (self.weight(sigma, weighting) * self.c_out(sigma) ** 2)

    def weight(self, sigma: Tensor, weighting: Weighting) -> Tensor:
        """What |D - image|**2 counts at ``sigma``, (B,).

        ``plain``: the squared error of the network's output; of a score times its sigma, 1 / sigma**2 (Song et al.
        2021, equation 7 with lambda = sigma**2). ``velocity``: of a flow's velocity, (1 + 1 / sigma)**2.
        ``min_snr``: min(1 / sigma**2, 5) (Hang et al. 2023, equation 5). ``edm``: 1 / sigma**2 + 1 / sigma_data**2
        (Karras et al. 2022, table 1). ``soft``: 1 / (sigma**2 + sigma_data**2), the first without its kink.
        """
        if weighting == "plain":
            return sigma**-2 if self._score else 1 / self.c_out(sigma) ** 2
        if weighting == "velocity":
            return (1 + 1 / sigma) ** 2
        if weighting == "min_snr":
            return (1 / sigma**2).clamp(max=MIN_SNR)
        if weighting == "edm":
            return 1 / sigma**2 + 1 / self.sigma_data**2
        return 1 / (sigma**2 + self.sigma_data**2)

    def note(self) -> dict[str, Any]:
        """As plain data, for stillroom.json; :func:`noted` reads it."""
        ends = self.schedule.own_ends
        own = {"sigmas": list(ends)} if ends else {}
        return {"kind": self.kind, "schedule": self.schedule.name, "sigma_data": self.sigma_data, **own}


def objective(
    kind: names.Objective, name: names.Schedule, sigma_data: float = SIGMA_DATA,
    ends: tuple[float, float] | None = None,
) -> Objective:  # fmt: skip
    """The objective ``kind`` on schedule ``name``; ValueError when no stock scheduler samples the two together.

    ``ends`` of the noise levels: see :func:`.schedule.schedule`.
    """
    names.check(kind, name)
    return Objective(kind, schedule(name, ends), sigma_data)


def noted(note: Mapping[str, Any]) -> Objective:
    """The objective that :meth:`Objective.note` described; an exception when there is none of that description."""
    if not isinstance(note, Mapping):
        raise ValueError(f"objective is an object, not {type(note).__name__}")
    kind, low, high = note["kind"], *SIGMA_DATA_RANGE
    if not isinstance(kind, str) or kind not in names.SCHEDULES:
        raise ValueError(f"objective {kind!r:.40} is none of {', '.join(names.SCHEDULES)}")
    sigma_data = number(note.get("sigma_data", SIGMA_DATA), "sigma_data")
    if not low <= sigma_data <= high:
        raise ValueError(f"sigma_data {sigma_data:g} is not in {low:g}..{high:g}")
    return objective(kind, note["schedule"], sigma_data, _ends(note.get("sigmas")))


def _ends(found: Any) -> tuple[float, float] | None:
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError(f"sigmas {found!r:.40} of the objective must be the smallest and the largest")
    return number(found[0], "one of sigmas"), number(found[1], "one of sigmas")


def call(network: Callable[..., Any], entry: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
    """The prediction of a network of diffusers, or of one with its signature, (sample, timestep, class_labels).

    One that takes captions has them as ``text``, and as ``tokens`` with their ``mask``.
    """
    if unknown := condition.keys() - {LABEL, TEXT, TOKENS, MASK}:
        raise ValueError(f"no network takes {', '.join(sorted(unknown))}")
    told = {name: value for name, value in condition.items() if name != LABEL}
    predicted: Tensor = network(entry, timestep, class_labels=condition.get(LABEL), **told).sample
    return predicted


def along(values: Tensor, samples: Tensor) -> Tensor:
    """``values`` (B,) in a shape that multiplies ``samples`` (B, ...) one by one."""
    return values.view(-1, *(1,) * (samples.dim() - 1))
