"""A pack as tensors: mapped, gathered in batches, never decoded.

Shapes: N rows of the pack, B images of a batch, H, W, C of an image; samples of other kinds have other axes between.
Images of several shapes come as runs: a list of tensors (B, H, W, C), each of images of one shape.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base.errors import UserError
from components.dataset.told import Captions
from components.diffusion import conditions
from components.samples import pack
from components.samples import spec as specs
from components.samples.spec import SampleSpec

DTYPES = {"u8": torch.uint8, "f16": torch.float16, "f32": torch.float32}
_IMAGE = specs.image((3, 1, 1))


class Pixels:
    """The samples of a pack, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.header = pack.read_header(folder)
        self.class_ids = torch.tensor(list(pack.read_classes(folder)), dtype=torch.int64)
        self._check_classes(folder)
        self._shards = [self._mapped(folder, self.header, shape) for shape in range(len(self.header.shapes))]
        self.captions: Captions | None = None
        """What :meth:`tell` gave."""
        self.mirrored = False
        """Whether row ``rows`` + i is row i mirrored, for :meth:`gather` (:meth:`mirror`)."""
        self.null_class = len(self.header.classes) or None
        """The label that stands for none; None where there are no classes."""
        self._batch: Tensor | None = None
        self._starts = [torch.tensor([0, *map(len, shards)]).cumsum(0) for shards in self._shards]
        self.buckets: Tensor | None = None
        """The place in the header's shapes of each row, int64; None where there is one shape."""
        self._places: Tensor | None = None
        if len(self.header.shapes) > 1:
            buffer: Any = self.header.buckets
            self.buckets = torch.frombuffer(buffer, dtype=torch.int32).to(torch.int64)
            self._places = torch.empty_like(self.buckets)
            for shape in range(len(self.header.shapes)):
                mine = self.buckets == shape
                self._places[mine] = torch.arange(int(mine.sum()))

    def _mapped(self, folder: Path, header: pack.Header, shape: int) -> list[Tensor]:
        """The shards of one shape."""
        spec = header.spec.shaped(header.shapes[shape])
        return [
            torch.from_file(str(folder / name), size=rows * math.prod(spec.shape), dtype=DTYPES[spec.dtype])
            .view(rows, *spec.stored_shape)
            for (name, rows), other in zip(header.shards, header.shard_shapes, strict=True)
            if other == shape
        ]  # fmt: skip

    def numbered(self, classes: Sequence[str]) -> Tensor:
        """The class id of each row as ``classes`` numbers them, (N,) int64; matched by name, -1 for all others."""
        found = [classes.index(name) if name in classes else -1 for name in self.header.classes]
        return torch.tensor([*found, -1])[self.class_ids]  # the last one is for class id -1

    def number(self, classes: Sequence[str]) -> None:
        """Have these classes from now on, numbered as ``classes`` does."""
        self.class_ids = self.numbered(classes)
        self.header = dataclasses.replace(self.header, classes=tuple(classes))
        self.null_class = len(classes) or None

    def tell(self, text: Path | None, folder: Path) -> None:
        """Have the captions in ``text`` (data/text), of the pack in ``folder``; UserError where there are none."""
        self.captions = Captions(text, folder)

    def mirror(self, folder: Path) -> None:
        """Have the mirrored samples too, those of the pack in ``folder``, which has the same rows of one shape."""
        other = pack.read_header(folder)
        if other.rows != self.header.rows or other.shapes != self.header.shapes:
            raise UserError(f"{folder}: has other rows than the pack beside it: run stage 'encode' again")
        self._shards[0] += self._mapped(folder, other, 0)
        self._starts[0] = torch.tensor([0, *map(len, self._shards[0])]).cumsum(0)
        self.mirrored = True

    def condition(self, rows: Sequence[int] | Tensor) -> conditions.Condition:
        """What a network is told of ``rows`` beside the noise level: their labels, and the first caption of each."""
        said = {} if self.captions is None else self.captions.said(self.captions.numbers(rows))
        return {**self.labels(rows), **said}

    def labels(self, rows: Sequence[int] | Tensor, *, without: Tensor | None = None) -> conditions.Condition:
        """The labels of ``rows``; ``without``, (B,) bool: those whose label is left out."""
        ids = self.class_ids[torch.as_tensor(rows, dtype=torch.int64)]
        ids = ids if without is None else ids.masked_fill(without, -1)
        return conditions.of_classes(ids, self.null_class)

    def _check_classes(self, folder: Path) -> None:
        rows, classes = self.header.rows, len(self.header.classes)
        wrong = (self.class_ids < -1) | (self.class_ids >= classes)
        if len(self.class_ids) != rows or bool(wrong.any()):
            raise UserError(
                f"{folder / 'classes.i32'}: not {rows} numbers of the header's {classes} classes: "
                "run stage 'resize' again"
            )

    def gather(self, rows: Sequence[int] | Tensor) -> Tensor:
        """The samples of ``rows``, all of one shape, as they are stored, (B, ..., C)."""
        rows, shape = torch.as_tensor(rows, dtype=torch.int64), 0
        if self.buckets is not None and self._places is not None:
            found = self.buckets[rows].unique().tolist()
            if len(found) > 1:
                raise ValueError(f"rows of {len(found)} shapes do not make one tensor")
            shape = found[0] if found else self.header.shapes.index(self.header.spec.shape)
            rows = self._places[rows]
        shards = self._shards[shape]
        if len(shards) == 1:
            return shards[0].index_select(0, rows)  # twenty times as fast as indexing at 32 px
        starts = self._starts[shape]
        which = torch.bucketize(rows, starts[1:], right=True)
        out = torch.empty(len(rows), *shards[0].shape[1:], dtype=shards[0].dtype)
        for shard in which.unique().tolist():
            mine = which == shard
            out.index_copy_(0, mine.nonzero().flatten(), shards[shard].index_select(0, rows[mine] - starts[shard]))
        return out

    def grouped(self, rows: Sequence[int] | Tensor) -> list[Tensor]:
        """The places in ``rows`` of the samples of each shape, by shape, int64; of one shape all, in one tensor."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if self.buckets is None:
            return [torch.arange(len(rows))]
        mine = self.buckets[rows]
        return [(mine == bucket).nonzero().flatten() for bucket in mine.unique().tolist()]

    def by_shape(self, rows: Sequence[int]) -> list[int]:
        """``rows`` with those of one shape together, in their order."""
        return [rows[at] for some in self.grouped(rows) for at in some.tolist()]

    def runs(self, rows: Sequence[int]) -> list[Tensor]:
        """The samples of ``rows``, which have those of one shape together, as they are stored."""
        return [self.gather(list(some)) for _, some in itertools.groupby(rows, self.header.shape)]

    def batch(self, rows: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> Tensor:
        """The samples of ``rows`` as the network takes them, float32 (B, C, ...); the next call writes to this memory.

        Fresh memory for each batch costs more in page faults than the work itself (benchmarks/loader.py, 256 px).
        """
        self._batch = to_network(self.gather(rows), device, out=self._batch, spec=self.header.spec)
        return self._batch


def sent(value: Tensor, device: torch.device | str) -> Tensor:
    """``value`` on ``device``; on CUDA by way of pinned memory, so that neither the host nor the device waits."""
    pinned = value.pin_memory() if torch.device(device).type == "cuda" and value.device.type == "cpu" else value
    return pinned.to(device, non_blocking=True)


def to_network(
    stored: Tensor, device: torch.device | str = "cpu", *, out: Tensor | None = None, spec: SampleSpec = _IMAGE
) -> Tensor:
    """Stored samples (B, ..., C) as float32 values (B, C, ...) on ``device``: bytes BHWC as BCHW in [-1, 1].

    Written to ``out`` when that has the right shape; ``spec`` says what stored numbers mean, and its shape is not read.
    """
    moved = sent(stored, device).movedim(-1, 1)
    # Turned and widened in one pass: permute().float().contiguous() goes over four times the bytes thrice.
    if out is None or out.shape != moved.shape or out.device != moved.device:
        out = torch.empty(moved.shape, device=moved.device)
    return out.copy_(moved).div_(1 / spec.scale).add_(spec.shift)


def to_pixels(images_BCHW: Tensor, spec: SampleSpec = _IMAGE) -> Tensor:
    """Values BCHW, in [-1, 1] or as ``spec`` has them, to uint8 BHWC, clipped and rounded; its shape is not read."""
    scaled = images_BCHW.float().sub(spec.shift).mul(1 / spec.scale).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
