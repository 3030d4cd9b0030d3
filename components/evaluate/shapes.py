"""Pictures of several shapes in an evaluation: which of them are compared, and in which shape each sample is drawn.

Like is compared with like: samples have the shapes of training images, in their proportions, and every distance between
two pictures is one between pictures of the same shape.  Pictures come as runs (:mod:`components.dataset.tensors`).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from components.base.errors import UserError
from components.dataset import tensors

Shape = tuple[int, ...]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """Rows of the pack, those of one shape together: of training images, and of the held-out ones."""

    train: list[int]
    held_out: list[int]


@dataclass(frozen=True)
class Asked:
    """Which samples to draw: their class ids, and their shapes, those of one shape together."""

    class_ids: list[int]
    shapes: list[Shape]

    def some(self, places: Sequence[int]) -> Asked:
        """Those at ``places``, which ascend."""
        return Asked([self.class_ids[at] for at in places], [self.shapes[at] for at in places])

    @property
    def mixed(self) -> list[int]:
        """The places of all samples, so that the first of them have every shape, each as often as in the whole."""
        count, seen = Counter(self.shapes), Counter[Shape]()
        ranks = []
        for at, shape in enumerate(self.shapes):
            ranks.append(((seen[shape] + 0.5) / count[shape] if len(count) > 1 else 0, at))
            seen[shape] += 1
        return [at for _, at in sorted(ranks)]


def compared(images: tensors.Pixels, train: Sequence[int], held_out: Sequence[int], where: Path) -> Compared:
    """``train`` and ``held_out`` without rows whose shape the other has not; UserError when they share none."""
    if images.buckets is None:
        return Compared(list(train), list(held_out))
    buckets = images.header.buckets
    shared = {buckets[row] for row in train} & {buckets[row] for row in held_out}
    if not shared:
        raise UserError(
            f"{where}: training images and held-out images share no shape, so nothing can be compared: add images, or "
            "take fewer shapes (resize.fit: a larger step, a smaller max_aspect)"
        )
    found = [[row for row in rows if buckets[row] in shared] for rows in (train, held_out)]
    for what, rows, kept in zip(("training", "held-out"), (train, held_out), found, strict=True):
        if len(kept) < len(rows):
            words = "%d of %d %s images have a shape that none of the others has: samples are not compared with them"
            _log.warning(words, len(rows) - len(kept), len(rows), what)
    return Compared(*(images.by_shape(rows) for rows in found))


def asked(images: tensors.Pixels, train: Sequence[int], count: int, classes: Tensor | None = None) -> Asked:
    """``count`` samples in the mix of shapes and classes of the training images ``train``.

    ``classes``: the class id of each row of the pack, if not the pack's own.
    """
    ids = images.class_ids if classes is None else classes
    shapes = [images.header.shape(row) for row in train]
    order = {shape: at for at, shape in enumerate(images.header.shapes)}
    pairs = mix(list(zip((order[shape] for shape in shapes), ids[list(train)].tolist(), strict=True)), count)
    return Asked([number for _, number in pairs], [images.header.shapes[at] for at, _ in pairs])


def mix(kinds: Sequence[Any], count: int) -> list[Any]:
    """``count`` of ``kinds``, ascending, in their proportions (method of the largest remainder)."""
    found = Counter(kinds)
    exact = {kind: found[kind] * count / len(kinds) for kind in sorted(found)}
    whole = {kind: math.floor(each) for kind, each in exact.items()}
    by_rest = sorted(exact, key=lambda kind: (whole[kind] - exact[kind], kind))
    for kind in by_rest[: count - sum(whole.values())]:
        whole[kind] += 1
    return [kind for kind in exact for _ in range(whole[kind])]


def of_labels(class_ids: Sequence[int], beside: Asked) -> Asked:
    """A sample for each of ``class_ids``, in the shape that most samples ``beside`` of its label have."""
    pairs = Counter(zip(beside.class_ids, beside.shapes, strict=True))
    usual = Counter(beside.shapes).most_common(1)[0][0]
    best: dict[int, Shape] = {}
    for (number, shape), _ in reversed(pairs.most_common()):
        best[number] = shape
    places = [(beside.shapes.index(best.get(number, usual)), number) for number in class_ids]
    chosen = sorted(places, key=lambda each: each[0])
    return Asked([number for _, number in chosen], [beside.shapes[at] for at, _ in chosen])


def sizes(runs: Sequence[Tensor]) -> dict[str, Any]:
    """For JSON: height, width and number of each of several runs; nothing of one."""
    return {"sizes": [[run.shape[1], run.shape[2], len(run)] for run in runs]} if len(runs) > 1 else {}
