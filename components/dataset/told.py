"""The captions of a pack's rows as tensors: which one a row is told with, its vector and its tokens.

Shapes: N rows of the pack, B of a batch, M captions, L tokens of a caption, D numbers of a vector and of a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base.errors import UserError
from components.diffusion import conditions
from components.samples import pack, texts


class Captions:
    """The captions of a pack, their vectors memory-mapped; what stage ``encode`` wrote into ``folder``."""

    def __init__(self, folder: Path | None, pixels: Path) -> None:
        """UserError where there are none."""
        found = texts.read(folder, pixels) if folder is not None and folder.is_dir() else None
        if folder is None or found is None or found.encoder is None:
            raise UserError(
                "train.conditions: asks for text, but encode.text is null: set that (docs/text.md), or leave text out"
            )
        self.folder, self.texts, self.encoder = folder, found, found.encoder
        starts: Any = found.starts
        numbers: Any = found.numbers
        self._starts = torch.frombuffer(starts, dtype=torch.int32).to(torch.int64)
        self._numbers = torch.frombuffer(numbers, dtype=torch.int32).to(torch.int64)
        size = len(found.captions) * found.encoder.width
        self._pooled = torch.from_file(str(folder / texts.POOLED), size=size, dtype=torch.float16)
        self._pooled = self._pooled.view(-1, found.encoder.width)
        self._tokens: Tensor | None = None
        if count := found.encoder.tokens:
            shape = (len(found.captions) + 1, count, found.encoder.width)
            states = torch.from_file(str(folder / texts.TOKENS), size=math.prod(shape), dtype=torch.float16)
            self._tokens = states.view(shape)
            lengths: Any = pack.read_int32(folder / texts.LENGTHS)
            self._lengths = torch.frombuffer(lengths, dtype=torch.int32).to(torch.int64)

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

    def tokens(self, numbers: Tensor) -> conditions.Condition:
        """The tokens of captions ``numbers`` (B,), float16 (B, L, D), and their mask; for -1 those of the empty one.

        Nothing where stage ``encode`` kept none.
        """
        if self._tokens is None:
            return {}
        last = len(self._tokens) - 1
        found = torch.where(numbers < 0, last, numbers)
        return conditions.of_tokens(self._tokens[found], self._lengths[found])

    def said(self, numbers: Tensor) -> conditions.Condition:
        """All that a network is told of captions ``numbers`` (B,), -1 for no caption."""
        return {conditions.TEXT: self.vectors(numbers), **self.tokens(numbers)}
