"""What the samples of a model that takes captions are told.

Samples stand for labels, as those of other models do, so that every score means the same; each is told the caption of a
held-out image of its label.  Whether samples show what they were told: retrieval.py.

Samples get rows of captions by the names of :mod:`components.diffusion.conditions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from components.base.errors import UserError
from components.dataset.tensors import Pixels
from components.dataset.told import Captions
from components.diffusion import conditions
from components.model.sampling import Denoiser

NEAREST = 10
"""Places from the front of which one is that of the right picture, for it to count as found."""


ENOUGH = 5
"""Captions with a word, of which a share says something."""


class Told(NamedTuple):
    """Where captions are: data/text, the pack, and the rows whose captions samples get."""

    text: Path
    pixels: Path
    rows: tuple[int, ...]


class Telling:
    """Captions for samples by label."""

    def __init__(self, told: Told, model: Denoiser) -> None:
        """For ``model``, which may take no captions: then nothing is read."""
        self.images: Pixels | None = None
        if model.text is None:
            return
        self.images = Pixels(told.pixels)
        self.images.tell(told.text, told.pixels)
        self._check(model)
        # By the model's own numbers where it has labels too; its samples are asked for by them.
        ids = self.images.numbered(model.classes) if model.classes else self.images.class_ids
        self._of_class: dict[int, list[int]] = {}
        for row in captioned(self.images, told.rows):
            self._of_class.setdefault(int(ids[row]), []).append(row)

    def _check(self, model: Denoiser) -> None:
        captions = self.images and self.images.captions
        if captions and model.text and captions.encoder.sha256 != model.text.sha256:
            raise UserError("data/text: of another encoder than that of the model: train it again, or set encode.text "
                            "to what it was trained with")  # fmt: skip
        self._tokens = model.text.tokens if model.text else 0
        if captions and self._tokens not in (0, captions.encoder.tokens):
            raise UserError(f"data/text: holds {captions.encoder.tokens or 'no'} tokens of a caption, and the model "
                            f"reads {self._tokens}: train it again, or set encode.text.tokens to that")  # fmt: skip

    def of_classes(self, class_ids: Sequence[int], first: int) -> conditions.Condition | None:
        """Captions for samples of ``class_ids``, of which the first is number ``first``, a row each.

        Those of one label take turns; the empty one where no held-out image of a label has a caption.
        """
        if self.images is None or self.images.captions is None:
            return None
        numbers = []
        for at, kind in enumerate(class_ids):
            rows = self._of_class.get(kind, [])
            numbers.append(int(self.images.captions.numbers([rows[(first + at) % len(rows)]])[0]) if rows else -1)
        return self._said(self.images.captions, torch.tensor(numbers, dtype=torch.int64))

    def of_rows(self, rows: Sequence[int]) -> conditions.Condition:
        """The first caption of each of ``rows``, a row each."""
        captions = self.images.captions if self.images else None
        assert captions is not None, "asked for models that take captions alone"
        return self._said(captions, captions.numbers(rows))

    def _said(self, captions: Captions, numbers: Tensor) -> conditions.Condition:
        """What the model takes of captions ``numbers``."""
        said = captions.said(numbers)
        return said if self._tokens else {conditions.TEXT: said[conditions.TEXT]}


def captioned(images: Pixels, rows: Sequence[int]) -> list[int]:
    """Those of ``rows`` that have a caption, of images that were told of theirs."""
    assert images.captions is not None, "told by whoever asks"
    numbers = images.captions.numbers(list(rows)).tolist()
    return [row for row, number in zip(rows, numbers, strict=True) if number >= 0]


def chosen(images: Pixels, test: Sequence[int], most: int) -> list[int]:
    """The test images that are looked for: ``most`` of those with a caption, spread evenly, by shape."""
    rows = captioned(images, test)
    count = min(most, len(rows))
    return images.by_shape([rows[at * len(rows) // count] for at in range(count)])
