"""What a step of training makes small: the squared error of the clean image, or a model's inconsistency.

Shapes: B images of this rank's share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from components.base.params import Params
from components.diffusion import conditions, consistency
from components.diffusion.names import Weighting
from components.diffusion.objective import Objective, along
from components.train.feed import Batch

Network = Callable[..., Any]


class Aim(Protocol):
    """What a step makes small."""

    work: float
    """Of a step, as a share of what denoising the same images takes."""

    def gap(self, done: float) -> float:
        """A number that the losses need and that changes on the way, after the share ``done``, 0..1, of the images."""
        ...

    def losses(self, model: Network, batch: Batch, gap: float | Tensor) -> Tensor:
        """Of each image, (B,); ``model`` is the network that learns, in whatever it is wrapped."""
        ...


class Tuning(Params):
    """How a denoiser becomes a student of few steps; see :class:`Consistency`."""

    gap: float = Field(gt=0, le=1, description="between the noise levels of a pair at the start, as a share, 0..1")
    halvings: int = Field(ge=0, le=16, description="of the gap, evenly over the training, 0..16")
    guidance: float = Field(ge=0, le=50, description="with which the denoiser samples; the student needs none, 0..50")
    autoguidance: float = Field(ge=1, le=50, description="the same of the push away from its guide, 1..50")
    sigmas: tuple[float, ...] = Field(min_length=1, description="falling noise levels at which the student draws")
    classes: tuple[str, ...] = Field(description="of the denoiser, in its order")


class Denoising:
    """The weighted squared error of the network's prediction: training as such."""

    work = 1.0

    def __init__(self, objective: Objective, weighting: Weighting) -> None:
        self.objective, self.weighting = objective, weighting

    def gap(self, done: float) -> float:
        """Not needed."""
        return 0.0

    def losses(self, model: Network, batch: Batch, gap: float | Tensor) -> Tensor:
        """See :meth:`components.diffusion.objective.Objective.loss`."""
        return self.objective.loss(
            told(model, batch.done), batch.image, batch.noise, batch.sigma, batch.condition, self.weighting
        )


def told(network: Network, done: Tensor | None) -> Network:
    """``network``, told what augmentation has ``done`` to the images where it takes that.

    At sampling no augmentation labels are given, which is the same as zeros.
    """
    return network if done is None else functools.partial(network, augment_labels=done)


class Consistency:
    """The inconsistency of a network: how far its answers at two points of a path are apart.

    The path runs as the frozen ``teacher``, the network before its first step, leads with its guidance and away from
    its ``guide``, if it has one (:func:`components.model.sampling.guided`), which the student so learns with it (Meng
    et al. 2023, arXiv:2210.03142, section 3.1).
    """

    def __init__(
        self, tuning: Tuning, objective: Objective, network: nn.Module, teacher: nn.Module,
        guide: nn.Module | None = None,
    ) -> None:  # fmt: skip
        self.tuning, self.objective, self.network = tuning, objective, network
        self.teacher = teacher.eval().requires_grad_(False)
        self.guide = guide and guide.eval().requires_grad_(False)
        self._null = len(tuning.classes) or None
        self._pulled = self._null is not None and tuning.guidance != 1
        self._pushed = guide is not None and tuning.autoguidance != 1
        # In calls: forward and backward, three; the lower point; the teacher, without the label too; its guide.
        led = (1 + self._pulled + self._pushed) if self._pulled or self._pushed else 0
        self.work = (3 + 1 + led) / 3

    def gap(self, done: float) -> float:
        """Of a pair's noise levels, as a share of the upper one where that is high; it halves at even distances."""
        halvings = self.tuning.halvings
        return self.tuning.gap / 2 ** min(halvings, int(done * (halvings + 1)))

    def losses(self, model: Network, batch: Batch, gap: float | Tensor) -> Tensor:
        """See :func:`components.diffusion.consistency.losses`."""
        sigma, condition = batch.sigma, batch.condition
        lower = consistency.earlier(sigma, gap)
        x = batch.image + along(sigma, batch.noise) * batch.noise
        with torch.no_grad():
            before = torch.lerp(self._clean(x, batch), x, along(lower / sigma, x))
            target = consistency.answer(self.objective, told(self.network, batch.done), before, lower, condition)
        return consistency.losses(self.objective, told(model, batch.done), x, sigma, target, lower, condition)

    def _clean(self, x: Tensor, batch: Batch) -> Tensor:
        """What the path at ``x`` leads to."""
        if not self._pulled and not self._pushed:
            return batch.image
        sigma, condition, free = batch.sigma, batch.condition, conditions.without(batch.condition, self._null)
        if self._pulled:
            both = conditions.joined([condition, free])
            teacher = told(self.teacher, None if batch.done is None else batch.done.repeat(2, 1))
            with_label, without = self.objective.denoise(teacher, torch.cat([x, x]), sigma.repeat(2), both).chunk(2)
            found = torch.lerp(without, with_label, self.tuning.guidance)
        else:
            found = self.objective.denoise(told(self.teacher, batch.done), x, sigma, condition)
        if self.guide is None or not self._pushed:
            return found
        weak = self.objective.denoise(told(self.guide, batch.done), x, sigma, free)
        return torch.lerp(weak, found, self.tuning.autoguidance)
