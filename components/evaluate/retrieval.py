"""Whether samples show what they were told: test images are looked for by what was drawn of their captions.

For each of N test images one sample of its caption, and the place of that image among all N by their distance to the
sample.  Shapes: N images, D features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from components.embed import features
from components.evaluate import scores

NEAREST = 10
"""Places from the front of which one is that of the right picture, for it to count as found."""

ENOUGH = 5
"""Captions with a word, of which a share says something."""


def places(drawn_ND: Tensor, real_ND: Tensor, captions: Sequence[int]) -> Tensor:
    """From 1 on: the place of the right picture among the N ``real_ND``, by distance to each of ``drawn_ND``, (N,).

    Pictures of the same caption, numbered in ``captions``, are all right: the nearest counts.
    """
    apart = torch.cdist(drawn_ND.double(), real_ND.double())
    said = torch.tensor(captions)
    right = said[:, None] == said[None, :]
    best = apart.masked_fill(~right, torch.inf).min(1, keepdim=True).values
    return (apart < best).sum(1) + 1


class Retrieved(NamedTuple):
    """Test images that were looked for."""

    captions: list[str]
    """By which each was, N of them."""
    places: Tensor
    """Of each among all, from 1 on, (N,)."""

    @property
    def found(self) -> Tensor:
        """Whether each stands in front, (N,) bool."""
        return self.places <= NEAREST


def words(retrieved: Retrieved) -> list[dict[str, Any]]:
    """Of each word of :data:`ENOUGH` captions or more: in how many it is, and the share of those that were found.

    The best first.
    """
    of_word: dict[str, list[bool]] = {}
    for caption, found in zip(retrieved.captions, retrieved.found.tolist(), strict=True):
        for word in sorted(set(re.findall(r"[^\W\d_]{2,}", caption.lower()))):
            of_word.setdefault(word, []).append(found)
    rows = [{"word": word, "images": len(hits), "found": sum(hits) / len(hits)}
            for word, hits in of_word.items() if len(hits) >= ENOUGH]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["found"], -row["images"], row["word"]))


def score(retrieved: Retrieved, **bootstrap: Any) -> dict[str, Any]:
    """The share that was found, with its interval as ``bootstrap`` says; ``chance``: that of any order."""
    count = len(retrieved.places)
    hit = scores.mean_interval(retrieved.found.double(), **bootstrap)
    chance = min(1.0, NEAREST / count)
    median = float(retrieved.places.double().median())
    return {**hit, "chance": chance, "median_place": median, "features": features.NAME, "images": count}
