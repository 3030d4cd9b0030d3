"""What a rank's step is fed: images, noise, noise levels and labels, found from the batch's place in the training.

Shapes: B samples of this rank, (B, C, ...); images BCHW.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor

from components.dataset import augment, counters, loaders, order, tensors
from components.diffusion import conditions, schedule
from components.train.distributed.ranks import Group
from components.train.params import TrainParams

SHARE = 0.25
"""Of the free memory of a GPU that training images may take: the rest is for weights, gradients and the step."""

_AT_ONCE = 4096
"""Images that go there at once."""

_log = logging.getLogger(__name__)


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


class Given(NamedTuple):
    """What a batch is made of on the device, (B, ...) each."""

    places: Tensor
    """In the order of the training, int64."""
    source: Tensor
    """Images as the network takes them, or where they lie among those that the device holds, int64."""
    sigma: Tensor
    condition: conditions.Condition
    group: int = 0
    """The images' place among the shapes of the training images; a number of the host."""

    def cloned(self) -> Given:
        """The same in memory of its own."""
        condition = {name: value.clone() for name, value in self.condition.items()}
        return Given(self.places.clone(), self.source.clone(), self.sigma.clone(), condition, self.group)

    def take(self, other: Given) -> None:
        """Become ``other``, of images of the same shape, in place."""
        pairs = [*zip(self[:3], other[:3], strict=True)]
        pairs += [(value, other.condition[name]) for name, value in self.condition.items()]
        for own, new in pairs:
            own.copy_(new)


class _Ahead(NamedTuple):
    """What a window of the training's order needs of what is drawn for it, on the device: (W,) each."""

    drawn: order.Draw
    """What it was made of, on the CPU."""
    places: Tensor
    positions: Tensor
    """Of the images among those of their shape."""
    sigma: Tensor
    condition: conditions.Condition
    """But for tokens, which take too much memory for a whole window."""
    captions: Tensor | None
    """The number of a caption of each image, int64, on the CPU; None where none has tokens."""


class Feed:
    """Batches by place, of a window at once; what they need goes to the device with its first batch.

    On CUDA the training images lie there whole where they take at most :data:`SHARE` of the free memory.  Elsewhere
    they are gathered from the pack, with ``params.loaders`` by processes of their own ahead of time.
    """

    def __init__(
        self, params: TrainParams, pixels: tensors.Pixels, rows: Tensor, group: Group,
        levels: schedule.Schedule | None = None,
    ) -> None:  # fmt: skip
        """``levels``: the schedule between whose ends noise levels are drawn; None: that of ``params``."""
        self.params, self.pixels, self.rows, self.group = params, pixels, rows, group
        self._levels = levels or schedule.schedule(params.schedule)
        groups = pixels.grouped(rows)
        self._order = order.of_groups(params.seed, params.batch, groups)
        self._plan = order.DrawPlan(
            seed=params.seed, batch=params.batch, count=len(rows), order=self._order,
            label_dropout=params.label_dropout, caption_dropout=params.caption_dropout,
        )  # fmt: skip
        header = pixels.header
        self._specs = [header.spec.shaped(header.shape(int(rows[some[0]]))) for some in groups if len(some)]
        # Of each training image: which of the shapes it has, and its place among the images of that shape.
        self._shape_of, self._inside = (torch.zeros(len(rows), dtype=torch.int64) for _ in range(2))
        for number, some in enumerate(groups):
            self._shape_of[some], self._inside[some] = number, torch.arange(len(some))
        if params.augment.on:
            augment.check(header.spec, params.augment, mirrored=pixels.mirrored)
        self._out: dict[torch.Size, Tensor] = {}
        self._window: _Ahead | None = None
        self._held = [self._all(self._both(rows[some])) for some in groups] if self._fits() else None
        self._loaders = None
        if params.loaders and self._held is not None and group.rank == 0:
            _log.info("train.loaders %d is not needed: the GPU holds all training images", params.loaders)
        elif params.loaders and self._held is None:
            most = params.batch // group.size * max(math.prod(spec.shape) for spec in self._specs)
            self._loaders = loaders.Loaders(
                params.loaders, self._gather, self._stored, group.device, header.spec, numbers=most
            )

    def batch(self, place: int, then: int | None = None) -> Batch:
        """The part of this rank in the batch at ``place``; ``then`` is the place that most likely follows."""
        return self.made(self.given(place, then))

    def given(self, place: int, then: int | None = None) -> Given:
        """What :meth:`made` makes that batch of."""
        ahead, mine = self._ahead(place)
        source = self._read(place, then) if self._held is None else ahead.positions[mine]
        condition = conditions.rows(ahead.condition, mine)
        if ahead.captions is not None and self.pixels.captions is not None:
            tokens = self.pixels.captions.tokens(ahead.captions[mine])
            condition = {**condition, **{name: tensors.sent(each, self.group.device) for name, each in tokens.items()}}
        return Given(ahead.places[mine], source, ahead.sigma[mine], condition, self._group_at(place))

    def made(self, given: Given) -> Batch:
        """The batch of ``given``, by the device alone."""
        spec, how, image = self._specs[given.group], self.params.augment, given.source
        noise = counters.normal(self.params.seed, given.places, spec.shape, self.group.device)
        if self._held is not None:
            image = self._turned(self._held[given.group].index_select(0, given.source))
        if not how.on:
            return Batch(image, noise, given.sigma, given.condition)
        drawn = augment.draw(how, self.params.seed, given.places)
        changed = image if self.pixels.mirrored else augment.apply(how, image, drawn, spec)
        return Batch(changed, noise, given.sigma, given.condition, drawn.label() if how.labelled else None)

    def rows_at(self, first: int, last: int) -> Tensor:
        """The rows of the pack that are shown at places ``first`` .. ``last`` - 1, over all ranks."""
        return self.rows[self._order.positions(torch.arange(first, last))]

    def tell_shapes(self) -> None:
        """Log how many training images each shape has, and how many steps it gets; nothing where there is one."""
        if len(self._specs) == 1:
            return
        counts, steps = torch.bincount(self._shape_of).tolist(), self._order.steps(self.params.total_steps)
        for spec, images, many in zip(self._specs, counts, steps, strict=True):
            _log.info("%s px: %d training images, %d of %d steps", spec.size, images, many, self.params.total_steps)
            if not many:
                words = "%s px: %d training images are too few for a step of train.batch %d: they are never shown"
                _log.warning(words, spec.size, images, self.params.batch)

    def close(self) -> None:
        """End the loaders."""
        if self._loaders:
            self._loaders.close()

    def _ahead(self, place: int) -> tuple[_Ahead, slice]:
        """The window around ``place`` and this rank's rows of it."""
        drawn, batch = self._plan.window(place)
        if self._window is None or self._window.drawn is not drawn:
            self._window = self._sent(drawn)
        share = self.params.batch // self.group.size
        first = batch.start + self.group.rank * share
        return self._window, slice(first, first + share)

    def _sent(self, drawn: order.Draw) -> _Ahead:
        device = self.group.device
        sigma = self.params.sigma_distribution.sigma(drawn.share, self._levels)
        rows, told, numbers = self.rows[drawn.positions], self.pixels.captions, None
        condition = self.pixels.labels(rows, without=drawn.dropped)
        if told is not None:
            numbers = told.numbers(rows, drawn.caption).masked_fill(drawn.untold, -1)
            condition = {**condition, conditions.TEXT: told.vectors(numbers)}
        inside = self._inside[drawn.positions]
        if self.pixels.mirrored:
            inside = inside + len(self.rows) * self._flips(drawn.places)
        given = (drawn.places, inside, sigma)
        places, positions, sigma = (tensors.sent(each, device) for each in given)
        condition = {name: tensors.sent(each, device) for name, each in condition.items()}
        return _Ahead(drawn, places, positions, sigma, condition, numbers if told and told.encoder.tokens else None)

    def _gather(self, place: int) -> Tensor:
        """The stored samples, (B, ..., C); what a loader process does."""
        drawn = self._plan.at(place)
        rows = self.rows[self.group.part(drawn.positions)]
        if self.pixels.mirrored:
            rows = rows + self.pixels.header.rows * self._flips(self.group.part(drawn.places))
        return self.pixels.gather(rows)

    def _flips(self, places: Tensor) -> Tensor:
        """1 or 0 for each of ``places``, int64: whether the mirrored sample is shown there, where the pack has both."""
        return augment.draw(self.params.augment, self.params.seed, places).mirrored.long()

    def _both(self, rows: Tensor) -> Tensor:
        """``rows``, and those of the mirrored samples after them."""
        return torch.cat([rows, rows + self.pixels.header.rows]) if self.pixels.mirrored else rows

    def _group_at(self, place: int) -> int:
        """The place among the shapes of the images in the batch at ``place``."""
        if len(self._specs) == 1:
            return 0
        drawn, batch = self._plan.window(place)
        return int(self._shape_of[drawn.positions[batch.start]])

    def _stored(self, place: int) -> tuple[int, ...]:
        """The shape, (B, ..., C), of what :meth:`_gather` gives."""
        return (self.params.batch // self.group.size, *self._specs[self._group_at(place)].stored_shape)

    def _read(self, place: int, then: int | None) -> Tensor:
        """The images from the pack, as the network takes them."""
        if self._loaders:
            return self._loaders.get(place, place + self.params.batch if then is None else then, self.params.batch)
        return self._turned(self._gather(place))

    def _turned(self, stored: Tensor) -> Tensor:
        spec, out = self.pixels.header.spec, self._out.get(stored.shape)
        self._out[stored.shape] = tensors.to_network(stored, self.group.device, out=out, spec=spec)
        return self._out[stored.shape]

    def _fits(self) -> bool:
        """Whether the training images may stay on the device."""
        if self.group.device.type != "cuda":
            return False
        pixels, (free, _) = self.pixels, torch.cuda.mem_get_info(self.group.device)
        groups = [some for some in pixels.grouped(self.rows) if len(some)]
        numbers = sum(len(some) * math.prod(pixels.header.shape(int(self.rows[some[0]]))) for some in groups)
        return (1 + pixels.mirrored) * numbers * tensors.DTYPES[pixels.header.spec.dtype].itemsize <= SHARE * free

    def _all(self, rows: Tensor) -> Tensor:
        """The images of ``rows``, of one shape, as stored, (N, ..., C), on the device."""
        spec = self.pixels.header.spec.shaped(self.pixels.header.shape(int(rows[0])))
        shape = (len(rows), *spec.stored_shape)
        out = torch.empty(shape, dtype=tensors.DTYPES[spec.dtype], device=self.group.device)
        for first in range(0, len(rows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            out[part] = self.pixels.gather(rows[part]).to(out.device)
        return out
