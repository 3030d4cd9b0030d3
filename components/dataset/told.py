"""The captions of a pack's rows as tensors: which one a row is told with, and its vector.

Shapes: N rows of the pack, B of a batch, M captions, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base.errors import UserError
from components.samples import texts


class Captions:
    """The captions of a pack, their vectors memory-mapped; what stage ``encode`` wrote into ``folder``."""

    def __init__(self, folder: Path | None, pixels: Path) -> None:
        """UserError where there are none."""
        found = texts.read(folder, pixels) if folder is not None and folder.is_dir() else None
        if folder is None or found is None or found.encoder is None:
            raise UserError(
                "train.conditions: asks for text, but encode.text is null: set that (docs/text.md), or leave text out"
            )
        self.texts, self.encoder = found, found.encoder
        starts: Any = found.starts
        numbers: Any = found.numbers
        self._starts = torch.frombuffer(starts, dtype=torch.int32).to(torch.int64)
        self._numbers = torch.frombuffer(numbers, dtype=torch.int32).to(torch.int64)
        size = len(found.captions) * found.encoder.width
        self._pooled = torch.from_file(str(folder / texts.POOLED), size=size, dtype=torch.float16)
        self._pooled = self._pooled.view(-1, found.encoder.width)

    def numbers(self, rows: Sequence[int] | Tensor, share: Tensor | None = None) -> Tensor:
        """The number of a caption of each of ``rows``, (B,) int64, -1 where it has none.

        ``share`` (B,), 0 <= share < 1, chooses among several; None takes the first of each.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        first, count = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        which = torch.zeros_like(first) if share is None else (share.double() * count).long()
        held = count > 0
        return torch.where(held, self._numbers[torch.where(held, first + which, 0)], -1)

    def vectors(self, numbers: Tensor) -> Tensor:
        """The vectors of captions ``numbers`` (B,), float32 (B, D); zeros for -1, no caption."""
        found = self._pooled[numbers.clamp(min=0)].float()
        return found.masked_fill_((numbers < 0)[:, None], 0)
