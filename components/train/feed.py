"""What a rank's step is fed: images, noise, noise levels and labels, found from the batch's place in the training.

Shapes: B samples of this rank, (B, C, ...); images BCHW.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.dataset import augment, counters, loaders, order, tensors
from components.diffusion import conditions, schedule
from components.train.distributed.ranks import Group
from components.train.params import TrainParams


class Batch(NamedTuple):
    """This rank's part of a step, on its device."""

    image: Tensor
    """(B, C, ...), float32, images BCHW in [-1, 1]; the next batch may be written to the same memory."""
    noise: Tensor
    """As ``image``, unit normal."""
    sigma: Tensor
    """(B,), above 0."""
    condition: conditions.Condition
    """What the network gets beside the noise level, (B, ...) each.

    A label is the null class where the image has none or it was dropped.
    """
    done: Tensor | None = None
    """(B, augment.LABELS): what augmentation did, for a network that takes it."""

    def part(self, piece: slice) -> Batch:
        """Some of its images."""
        return Batch(
            self.image[piece], self.noise[piece], self.sigma[piece], conditions.rows(self.condition, piece),
            None if self.done is None else self.done[piece],
        )  # fmt: skip


class Feed:
    """Batches by place; with ``params.loaders`` their images are gathered ahead by processes of their own."""

    def __init__(self, params: TrainParams, pixels: tensors.Pixels, rows: Tensor, group: Group) -> None:
        self.params, self.pixels, self.rows, self.group = params, pixels, rows, group
        self._plan = order.DrawPlan(
            seed=params.seed, batch=params.batch, count=len(rows), label_dropout=params.label_dropout
        )
        header = pixels.header
        if params.augment.on:
            augment.check(header.spec)
        self._out: Tensor | None = None
        shape = (params.batch // group.size, *header.spec.stored_shape)
        self._loaders = None
        if params.loaders:
            self._loaders = loaders.Loaders(params.loaders, self._gather, shape, group.device, header.spec)

    def batch(self, place: int, then: int | None = None) -> Batch:
        """The part of this rank in the batch at ``place``; ``then`` is the place that most likely follows."""
        draw, device = self._mine(place), self.group.device
        header = self.pixels.header
        ids = self.pixels.class_ids[self.rows[draw.positions]].masked_fill(draw.dropped, -1)
        condition = conditions.moved(conditions.of_classes(ids, len(header.classes) or None), device)
        known = schedule.schedule(self.params.schedule)
        sigma = self.params.sigma_distribution.sigma(draw.share, known).to(device, non_blocking=True)
        noise = counters.normal(self.params.seed, draw.places, header.spec.shape, device)
        image, how = self._image(place, then), self.params.augment
        if not how.on:
            return Batch(image, noise, sigma, condition)
        drawn = augment.draw(how, self.params.seed, draw.places.to(device, non_blocking=True))
        changed = augment.apply(how, image, drawn, header.spec)
        return Batch(changed, noise, sigma, condition, drawn.label() if how.labelled else None)

    def rows_at(self, first: int, last: int) -> Tensor:
        """The rows of the pack that are shown at places ``first`` .. ``last`` - 1, over all ranks."""
        return self.rows[order.positions(self.params.seed, torch.arange(first, last), len(self.rows))]

    def close(self) -> None:
        """End the loaders."""
        if self._loaders:
            self._loaders.close()

    def _mine(self, place: int) -> order.Draw:
        return order.Draw(*map(self.group.part, self._plan.at(place)))

    def _gather(self, place: int) -> Tensor:
        """The stored samples, (B, ..., C); what a loader process does."""
        return self.pixels.gather(self.rows[self._mine(place).positions])

    def _image(self, place: int, then: int | None) -> Tensor:
        if self._loaders:
            return self._loaders.get(place, place + self.params.batch if then is None else then, self.params.batch)
        self._out = tensors.to_network(
            self._gather(place), self.group.device, out=self._out, spec=self.pixels.header.spec
        )
        return self._out
