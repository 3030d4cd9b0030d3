"""A pack as tensors: mapped, gathered in batches, never decoded; and the order of training.

Shapes: N rows of the pack, B images of a batch, H, W, C of an image.  Whatever decides a training step is
a function of (seed, place), the number of images before it (counters.py), so nothing else has to be stored to go on
after a stop, and neither the number of processes nor what is drawn beside it changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from components.dataset import counters
from components.samples import pack

_AT_ONCE = 4096


class Pixels:
    """The images of a pack, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.header = pack.read_header(folder)
        self.class_ids = torch.tensor(list(pack.read_classes(folder)), dtype=torch.int64)
        side, channels = self.header.side, self.header.channels
        self._shards = [
            torch.from_file(str(folder / name), size=rows * self.header.row_bytes, dtype=torch.uint8)
            .view(rows, side, side, channels)
            for name, rows in self.header.shards
        ]  # fmt: skip
        self._batch: Tensor | None = None
        self._starts = torch.tensor([0, *(rows for _, rows in self.header.shards)]).cumsum(0)

    def gather(self, rows: Sequence[int] | Tensor) -> Tensor:
        """The uint8 images of ``rows``, BHWC."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if len(self._shards) == 1:
            return self._shards[0].index_select(0, rows)  # twenty times as fast as indexing at 32 px
        which = torch.bucketize(rows, self._starts[1:], right=True)
        out = torch.empty(len(rows), *self._shards[0].shape[1:], dtype=torch.uint8)
        for shard in which.unique().tolist():
            mine = which == shard
            out.index_copy_(
                0, mine.nonzero().flatten(), self._shards[shard].index_select(0, rows[mine] - self._starts[shard])
            )
        return out

    def batch(self, rows: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> Tensor:
        """The images of ``rows`` as the network takes them, float32 BCHW; the next call writes to the same memory.

        Fresh memory for each batch costs more in page faults than the work itself (benchmarks/loader.py, 256 px).
        """
        self._batch = to_network(self.gather(rows), device, out=self._batch)
        return self._batch


def to_network(images_BHWC: Tensor, device: torch.device | str = "cpu", *, out: Tensor | None = None) -> Tensor:
    """uint8 BHWC to float32 BCHW in [-1, 1] on ``device``; written to ``out`` when that has the right shape."""
    moved = images_BHWC.to(device, non_blocking=True)
    batch, height, width, channels = moved.shape
    # Turned and widened in one pass: permute().float().contiguous() goes over four times the bytes thrice.
    shape = (batch, channels, height, width)
    if out is None or out.shape != shape or out.device != moved.device:
        out = torch.empty(shape, device=moved.device)
    return out.copy_(moved.permute(0, 3, 1, 2)).div_(127.5).sub_(1)


def to_pixels(images_BCHW: Tensor) -> Tensor:
    """[-1, 1] BCHW to uint8 BHWC, clipped and rounded."""
    scaled = images_BCHW.float().add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def positions(seed: int, places: Tensor, count: int) -> Tensor:
    """Which of ``count`` training images are shown at ``places`` (N,) of the training; passes follow on."""
    return counters.shuffled(seed, counters.ORDER, places // count, places % count, count)


class Met(NamedTuple):
    """What each place of a batch meets, but for its noise (:func:`components.dataset.counters.normal`)."""

    places: Tensor
    """(B,) int64: images shown or skipped before it since the start."""
    positions: Tensor
    """(B,) int64: which of the training images."""
    share: Tensor
    """(B,) float32 in 0..1: which share of the noise levels lies below; one in each B-th, shuffled."""
    dropped: Tensor
    """(B,) bool: shown without its label."""


class Course:
    """What every place of a training meets, found for some hundred steps at once: alone, each would cost as much."""

    def __init__(self, *, seed: int, batch: int, count: int, label_dropout: float) -> None:
        self.seed, self.batch, self.count, self.label_dropout = seed, batch, count, label_dropout
        self._long = batch * max(1, _AT_ONCE // batch)
        self._first, self._met = -1, Met(*(torch.empty(0),) * 4)

    def at(self, place: int) -> Met:
        """The whole batch whose first image is at ``place``, a multiple of ``batch``."""
        first = place - place % self._long
        if first != self._first:
            self._first, self._met = first, self._meet(torch.arange(first, first + self._long))
        rows = slice(place - first, place - first + self.batch)
        return Met(*(part[rows] for part in self._met))

    def _meet(self, places: Tensor) -> Met:
        jitter, dropped, shuffle, _ = counters.words(self.seed, counters.SHARE, places)
        strata = shuffle.view(-1, self.batch).argsort(dim=1, stable=True).argsort(dim=1).flatten()
        share = (strata + counters.uniform(jitter)).double() / self.batch
        return Met(
            places, positions(self.seed, places, self.count), share.float().clamp(max=1 - 2.0**-24),
            counters.uniform(dropped) < self.label_dropout,
        )  # fmt: skip
