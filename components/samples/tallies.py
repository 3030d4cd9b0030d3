"""Of how many samples something holds, against of how many held-out images: in all and by class.

It is counted from the rows of the tables of :mod:`components.samples.drawn`, as plain data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Holds = Callable[[Row], bool | None]
"""Whether it holds of a row; None for a row that is not counted."""


def copy(row: Row) -> bool | None:
    """The image is as near to a training image as a copy."""
    return bool(row["copy"])


def recognised(row: Row) -> bool | None:
    """The classifier finds the image's label; None for one without a label, or where there is no classifier."""
    return None if row["label"] is None or row["predicted"] is None else bool(row["label"] == row["predicted"])


@dataclass(frozen=True)
class Tally:
    """It holds of ``hits`` of the ``samples``, and of ``real_hits`` of the ``real`` held-out images."""

    samples: int
    hits: int
    real: int
    real_hits: int

    @property
    def share(self) -> float:
        """Of the samples, 0..1; 0 where there are none."""
        return self.hits / self.samples if self.samples else 0.0

    @property
    def real_share(self) -> float:
        """Of the held-out images, which nobody trained on."""
        return self.real_hits / self.real if self.real else 0.0

    @property
    def chance_of_more(self) -> float:
        """How likely at least so many hits are among the samples if it holds of them as often as of held-out images.

        Fisher's exact test, one-sided.
        """
        return at_least(self.hits, self.samples, self.real_hits, self.real)

    @property
    def chance_of_fewer(self) -> float:
        """How likely at most so many hits are among the samples."""
        return at_least(self.real_hits, self.real, self.hits, self.samples)


def tally(samples: Iterable[Row], held_out: Iterable[Row], holds: Holds) -> Tally:
    """Over all rows."""
    drawn, real = ([found for row in rows if (found := holds(row)) is not None] for rows in (samples, held_out))
    return Tally(len(drawn), sum(drawn), len(real), sum(real))


def by_class(samples: Iterable[Row], held_out: Iterable[Row], holds: Holds, *, alone: bool = False) -> dict[str, Tally]:
    """For each label among the samples, ascending, "" for none.

    A label without held-out images is compared with all of them, or, with ``alone``, with none.
    """
    drawn, real = list(samples), list(held_out)
    found = {}
    for label in sorted({row["label"] or "" for row in drawn}):
        same = [row for row in real if (row["label"] or "") == label]
        of_label = (row for row in drawn if (row["label"] or "") == label)
        found[label] = tally(of_label, same if same or alone else real, holds)
    return found


def at_least(hits: int, trials: int, others_hits: int, others: int) -> float:
    """The chance of at least ``hits`` in ``trials``, given those in ``others``: Fisher's exact test, one-sided."""
    both, whole = hits + others_hits, trials + others
    logs = [_ways(both, k) + _ways(whole - both, trials - k) for k in range(hits, min(both, trials) + 1)]
    return min(1.0, math.fsum(math.exp(each - _ways(whole, trials)) for each in logs))


def _ways(of: int, chosen: int) -> float:
    """The logarithm of how many ways there are to choose ``chosen`` of ``of``: the number itself has many digits."""
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)
