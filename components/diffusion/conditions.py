"""What a network is told of each image beside its noise level."""

from __future__ import annotations

import torch
from torch import Tensor


def labels_for(class_ids: Tensor, null_class: int | None) -> Tensor | None:
    """Labels for the network: -1 becomes the null class; None when it takes none."""
    return None if null_class is None else torch.where(class_ids < 0, null_class, class_ids)
