"""The order of training: which image is shown at each place, at which noise level, with or without its label.

Whatever decides a training step is a function of (seed, place), the number of images before it (counters.py), so
nothing else has to be stored to go on after a stop, and neither the number of processes nor what is drawn beside it
changes it.  Shapes: B images of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from components.dataset import counters

_AT_ONCE = 4096
"""Places whose draws are found together: alone, each batch would cost as much."""


def positions(seed: int, places: Tensor, count: int) -> Tensor:
    """Which of ``count`` training images are shown at ``places`` (N,) of the training; an epoch follows an epoch."""
    return counters.shuffled(seed, counters.ORDER, places // count, places % count, count)


class Order:
    """Which training image is shown at each place, of images of one shape."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def positions(self, places: Tensor) -> Tensor:
        """Of the images at ``places`` (N,), int64."""
        return positions(self.seed, places, self.count)

    def steps(self, count: int) -> list[int]:
        """How many of the first ``count`` steps are of each group: there is one."""
        return [count]


class Grouped(Order):
    """The order of images in groups (those of one shape), where each batch is of one group.

    Each group is an endless order of its own, epoch after epoch, as :func:`positions` has it, cut into batches; so
    none of its images is left out, and a batch may hold the end of one of its epochs and the beginning of the next.
    After e epochs of the whole a group of n images has had round(e n / batch) batches, so all images are shown alike
    often, to one batch; within an epoch of the whole the batches of all groups are shuffled.
    """

    def __init__(self, seed: int, batch: int, groups: Sequence[Tensor]) -> None:
        """``groups``: the training images of each, as places among all, int64."""
        super().__init__(seed, sum(map(len, groups)))
        self.batch, self.groups = batch, groups
        self._sizes = torch.tensor([len(group) for group in groups])

    def positions(self, places: Tensor) -> Tensor:
        """Of the images at ``places`` (N,), int64."""
        group, number = self._batches(places // self.batch)
        own, found = number * self.batch + places % self.batch, torch.empty_like(places)
        for at in group.unique().tolist():
            mine = group == at
            found[mine] = self.groups[at][positions(self.seed, own[mine], len(self.groups[at]))]
        return found

    def steps(self, count: int) -> list[int]:
        """How many of the first ``count`` steps are of each group."""
        epoch = self._epoch(count)
        began = self._had(epoch)
        rest = torch.arange(int(began.sum()), count)
        return (began + torch.bincount(self._batches(rest)[0], minlength=len(began))).tolist()

    def _had(self, epochs: int) -> Tensor:
        """How many batches each group has had after so many epochs, (groups,)."""
        return (2 * epochs * self._sizes + self.batch) // (2 * self.batch)

    def _epoch(self, step: int) -> int:
        """The epoch that step number ``step`` is in: the last one before which no more steps were made."""
        low, high = 0, step * self.batch // self.count + 2 + len(self.groups) * self.batch // self.count
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if int(self._had(middle).sum()) <= step else (low, middle)
        return low

    def _batches(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The group of each of ``steps`` (N,), and the number of its batch among those of its group."""
        group, number = torch.full_like(steps, -1), torch.empty_like(steps)
        while len(todo := steps[group < 0]):
            epoch = self._epoch(int(todo.min()))
            began, many = self._had(epoch), self._had(epoch + 1) - self._had(epoch)
            first, count = int(began.sum()), int(many.sum())
            mine = (steps >= first) & (steps < first + count)
            own = steps[mine] - first
            chosen = counters.shuffled(self.seed, counters.GROUPS, torch.full_like(own, epoch), own, count)
            kinds = torch.arange(len(many)).repeat_interleave(many)
            group[mine] = kinds[chosen]
            number[mine] = (began - (many.cumsum(0) - many))[group[mine]] + chosen
        return group, number


def of_groups(seed: int, batch: int, groups: Sequence[Tensor]) -> Order:
    """The order of images of which each of ``groups`` (places among all, int64) has one shape."""
    return Grouped(seed, batch, groups) if len(groups) > 1 else Order(seed, sum(map(len, groups)))


class Draw(NamedTuple):
    """What is drawn for each place of a batch, but for its noise (:func:`components.dataset.counters.normal`)."""

    places: Tensor
    """(B,) int64: images shown or skipped before it since the start."""
    positions: Tensor
    """(B,) int64: which of the training images."""
    share: Tensor
    """(B,) float32 in 0..1: which share of the noise levels lies below; one in each B-th, shuffled."""
    dropped: Tensor
    """(B,) bool: shown without its label."""
    untold: Tensor
    """(B,) bool: shown without its caption.  The same number decides both: what is dropped less often is never dropped
    where the other is shown."""
    caption: Tensor
    """(B,) float32, 0 <= caption < 1: which of several captions."""


class DrawPlan:
    """The draws of a whole training, by place."""

    def __init__(
        self, *, seed: int, batch: int, count: int, label_dropout: float, order: Order | None = None,
        caption_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """``order``: which of the ``count`` images comes when; None: that of images of one shape."""
        self.seed, self.batch, self.label_dropout, self.caption_dropout = seed, batch, label_dropout, caption_dropout
        self.order = order or Order(seed, count)
        self._long = batch * max(1, _AT_ONCE // batch)
        self._first, self._drawn = -1, Draw(*(torch.empty(0),) * 6)

    def at(self, place: int) -> Draw:
        """The whole batch whose first image is at ``place``, a multiple of ``batch``."""
        window, rows = self.window(place)
        return Draw(*(part[rows] for part in window))

    def window(self, place: int) -> tuple[Draw, slice]:
        """The draws of the batches around ``place``, the same object until another window is asked for, and which of
        them are those of :meth:`at`."""
        first = place - place % self._long
        if first != self._first:
            self._first, self._drawn = first, self._draw(torch.arange(first, first + self._long))
        return self._drawn, slice(place - first, place - first + self.batch)

    def _draw(self, places: Tensor) -> Draw:
        jitter, dropped, shuffle, caption = counters.words(self.seed, counters.SHARE, places)
        strata = shuffle.view(-1, self.batch).argsort(dim=1, stable=True).argsort(dim=1).flatten()
        share = (strata + counters.uniform(jitter)).double() / self.batch
        return Draw(
            places, self.order.positions(places), share.float().clamp(max=1 - 2.0**-24),
            counters.uniform(dropped) < self.label_dropout, counters.uniform(dropped) < self.caption_dropout,
            counters.uniform(caption),
        )  # fmt: skip
