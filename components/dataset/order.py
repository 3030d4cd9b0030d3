"""The order of training: which image is shown at each place, at which noise level, with or without its label.

Whatever decides a training step is a function of (seed, place), the number of images before it (counters.py), so
nothing else has to be stored to go on after a stop, and neither the number of processes nor what is drawn beside it
changes it.  Shapes: B images of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.dataset import counters

_AT_ONCE = 4096
"""Places whose draws are found together: alone, each batch would cost as much."""


def positions(seed: int, places: Tensor, count: int) -> Tensor:
    """Which of ``count`` training images are shown at ``places`` (N,) of the training; an epoch follows an epoch."""
    return counters.shuffled(seed, counters.ORDER, places // count, places % count, count)


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


class DrawPlan:
    """The draws of a whole training, by place."""

    def __init__(self, *, seed: int, batch: int, count: int, label_dropout: float) -> None:
        self.seed, self.batch, self.count, self.label_dropout = seed, batch, count, label_dropout
        self._long = batch * max(1, _AT_ONCE // batch)
        self._first, self._drawn = -1, Draw(*(torch.empty(0),) * 4)

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
        jitter, dropped, shuffle, _ = counters.words(self.seed, counters.SHARE, places)
        strata = shuffle.view(-1, self.batch).argsort(dim=1, stable=True).argsort(dim=1).flatten()
        share = (strata + counters.uniform(jitter)).double() / self.batch
        return Draw(
            places, positions(self.seed, places, self.count), share.float().clamp(max=1 - 2.0**-24),
            counters.uniform(dropped) < self.label_dropout,
        )  # fmt: skip
