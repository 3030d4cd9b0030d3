"""What a network gets for each sample beside its noise level: tensors by name, one row a sample.

``label``, (B,) int64: class numbers, of which the last stands for no label.  A network that takes none gets an empty
mapping.  More conditions (text, control images) are more names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Condition = Mapping[str, Tensor]

LABEL = "label"


def of_classes(class_ids: Tensor, null_class: int | None) -> Condition:
    """Labels for the network: -1 becomes ``null_class``; nothing when that is None, for a network without labels."""
    return {} if null_class is None else {LABEL: torch.where(class_ids < 0, null_class, class_ids)}


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
    """``condition`` with the label that stands for none in each row."""
    labels = condition.get(LABEL)
    return (
        condition if labels is None or null_class is None else {**condition, LABEL: torch.full_like(labels, null_class)}
    )


def says_something(condition: Condition, null_class: int | None) -> bool:
    """Whether any row differs from :func:`without`."""
    free = without(condition, null_class)
    return any(not torch.equal(value, free[name]) for name, value in condition.items())
