"""How many samples copy a training image, against how many held-out images do: from the rows of both tables.

The rows are those of :mod:`components.samples.drawn`, as plain data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Count:
    """Of ``samples`` ``copies`` are copies; of ``real`` held-out images, which nobody trained on, ``real_copies``."""

    samples: int
    copies: int
    real: int
    real_copies: int

    @property
    def share(self) -> float:
        """Of the samples that are copies, 0..1."""
        return self.copies / self.samples if self.samples else 0.0

    @property
    def real_share(self) -> float:
        """The same of the held-out images."""
        return self.real_copies / self.real if self.real else 0.0

    @property
    def chance(self) -> float:
        """How likely at least so many copies are among the samples if samples copied as rarely as held-out images do.

        Fisher's exact test, one-sided.
        """
        return at_least(self.copies, self.samples, self.real_copies, self.real)


def count(samples: Iterable[Row], held_out: Iterable[Row]) -> Count:
    """Over all rows."""
    drawn, real = [row["copy"] for row in samples], [row["copy"] for row in held_out]
    return Count(len(drawn), sum(drawn), len(real), sum(real))


def by_class(samples: Iterable[Row], held_out: Iterable[Row]) -> dict[str, Count]:
    """For each label among the samples, ascending, "" for none; without held-out images of it against all of them."""
    drawn, real = list(samples), list(held_out)
    found = {}
    for label in sorted({row["label"] or "" for row in drawn}):
        same = [row for row in real if (row["label"] or "") == label] or real
        found[label] = count((row for row in drawn if (row["label"] or "") == label), same)
    return found


def at_least(hits: int, trials: int, others_hits: int, others: int) -> float:
    """The chance of at least ``hits`` in ``trials``, given those in ``others``: Fisher's exact test, one-sided."""
    both, whole = hits + others_hits, trials + others
    logs = [_ways(both, k) + _ways(whole - both, trials - k) for k in range(hits, min(both, trials) + 1)]
    return min(1.0, math.fsum(math.exp(each - _ways(whole, trials)) for each in logs))


def _ways(of: int, chosen: int) -> float:
    """The logarithm of how many ways there are to choose ``chosen`` of ``of``: the number itself has many digits."""
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)
