"""What a network gets for each sample beside its noise level: tensors by name, one row a sample.

``label``, (B,) int64: class numbers, of which the last stands for no label.  ``text``, (B, D) float32: the vector of a
caption, of which zeros stand for none.  A network that takes nothing gets an empty mapping.  More conditions (control
images) are more names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Condition = Mapping[str, Tensor]

LABEL, TEXT = "label", "text"


def of_classes(class_ids: Tensor, null_class: int | None) -> Condition:
    """Labels for the network: -1 becomes ``null_class``; nothing when that is None, for a network without labels."""
    return {} if null_class is None else {LABEL: torch.where(class_ids < 0, null_class, class_ids)}


def with_text(condition: Condition, vectors: Tensor | None) -> Condition:
    """``condition`` and the vectors of captions (B, D), for a network that takes them; None: it takes none."""
    return condition if vectors is None else {**condition, TEXT: vectors}


def moved(condition: Condition, device: torch.device) -> Condition:
    """``condition`` on ``device``."""
    return {name: value.to(device, non_blocking=True) for name, value in condition.items()}


def rows(condition: Condition, which: slice | Tensor) -> Condition:
    """The rows ``which`` of ``condition``."""
    return {name: value[which] for name, value in condition.items()}


def joined(parts: Sequence[Condition]) -> Condition:
    """The rows of all ``parts``, which have the same names."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def without(condition: Condition, null_class: int | None) -> Condition:
    """``condition`` with the label and the caption that stand for none in each row."""
    free = dict(condition)
    if LABEL in free and null_class is not None:
        free[LABEL] = torch.full_like(free[LABEL], null_class)
    if TEXT in free:
        free[TEXT] = torch.zeros_like(free[TEXT])
    return free


def says_something(condition: Condition, null_class: int | None) -> bool:
    """Whether any row differs from :func:`without`."""
    free = without(condition, null_class)
    return any(not torch.equal(value, free[name]) for name, value in condition.items())
