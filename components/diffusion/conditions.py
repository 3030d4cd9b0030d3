"""What a network gets for each sample beside its noise level: tensors by name, one row a sample.

``label``, (B,) int64: class numbers, of which the last stands for no label.  ``text``, (B, D) float32: the vector of a
caption, of which zeros stand for none.  ``tokens``, (B, L, D) float16 or float32, with ``mask``, (B, L) bool: the
states of a caption's tokens, and which of them are no padding; those of the empty caption stand for none.  A network
that takes nothing gets an empty mapping.  More conditions (control images) are more names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Condition = Mapping[str, Tensor]

LABEL, TEXT, TOKENS, MASK = "label", "text", "tokens", "mask"


def of_classes(class_ids: Tensor, null_class: int | None) -> Condition:
    """Labels for the network: -1 becomes ``null_class``; nothing when that is None, for a network without labels."""
    return {} if null_class is None else {LABEL: torch.where(class_ids < 0, null_class, class_ids)}


def of_tokens(states: Tensor, lengths: Tensor) -> Condition:
    """The states (B, L, D) of captions' tokens, of which the first ``lengths`` (B,) are no padding."""
    return {TOKENS: states, MASK: torch.arange(states.shape[1], device=lengths.device) < lengths[:, None]}


def moved(condition: Condition, device: torch.device) -> Condition:
    """``condition`` on ``device``."""
    return {name: value.to(device, non_blocking=True) for name, value in condition.items()}


def rows(condition: Condition, which: slice | Tensor | list[int]) -> Condition:
    """The rows ``which`` of ``condition``."""
    return {name: value[which] for name, value in condition.items()}


def joined(parts: Sequence[Condition]) -> Condition:
    """The rows of all ``parts``, which have the same names."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def repeated(condition: Condition, count: int) -> Condition:
    """The one row of ``condition``, ``count`` times."""
    return {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}


def without(condition: Condition, null_class: int | None, nothing: Condition | None = None) -> Condition:
    """``condition`` with the label and the caption that stand for none in each row.

    ``nothing``: the empty caption, in one row, for a condition with tokens.
    """
    free = dict(condition)
    if LABEL in free and null_class is not None:
        free[LABEL] = torch.full_like(free[LABEL], null_class)
    if TEXT in free:
        free[TEXT] = torch.zeros_like(free[TEXT])
    if TOKENS in free:
        assert nothing is not None, "whoever reads a network with tokens reads the empty caption beside it"
        free |= {name: nothing[name].to(free[name].dtype).expand_as(free[name]) for name in (TOKENS, MASK)}
    return free


def says_something(condition: Condition, null_class: int | None, nothing: Condition | None = None) -> bool:
    """Whether any row differs from :func:`without`."""
    free = without(condition, null_class, nothing)
    return any(not torch.equal(value, free[name]) for name, value in condition.items())
