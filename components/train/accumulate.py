"""Gradient accumulation: a rank's share of the batch in micro-batches that fit into memory, and their size.

Shapes: B images of this rank's share; a micro-batch is at most ``micro`` of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.base.errors import UserError
from components.train.distributed import sharding
from components.train.distributed.ranks import Group

Micro = Literal["auto"] | int

_log = logging.getLogger(__name__)


class OutOfMemory(UserError):
    """One rank has no memory left in the middle of a step; the others do not know of it."""


def backward(
    model: nn.Module, losses: Callable[[slice], Tensor], share: int, micro: int, scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Add the gradient of the mean loss of the share to the weights' gradients; return the losses, (B,), detached.

    ``losses`` computes those of a slice of the share; ``scale`` multiplies a loss by the gradient scaler's factor.
    Ranks exchange gradients once, with the last micro-batch.
    """
    found = []
    for first in range(0, share, micro):
        piece = slice(first, min(first + micro, share))
        with _unsynchronised(model, piece.stop < share):
            part = losses(piece)
            # For a single micro-batch the factor is exactly 1.
            scale(part.mean() * (len(part) / share)).backward()
        found.append(part.detach())
    return found[0] if len(found) == 1 else torch.cat(found)


@contextlib.contextmanager
def _unsynchronised(model: nn.Module, apart: bool) -> Iterator[None]:
    """With ``apart``, no gradients are exchanged between ranks inside the context."""
    if apart and isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif apart and sharding.is_sharded(model):
        sharded: Any = model  # an FSDPModule
        sharded.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            sharded.set_requires_gradient_sync(True)
    else:
        yield


def size(wanted: Micro, share: int, group: Group, attempt: Callable[[int], object]) -> int:
    """Images of a micro-batch: ``wanted``, at most ``share``; auto: all on the CPU, on CUDA what fits every rank.

    ``attempt`` computes the gradient of that many images and drops it; it raises torch.OutOfMemoryError when they do
    not fit.  The search is tested with an attempt that raises it by itself, not yet on a GPU whose memory is full.
    """
    if wanted != "auto":
        return min(wanted, share)
    if group.device.type != "cuda":
        return share
    found = least(group, largest(share, attempt))
    if found < share and group.rank == 0:
        words = "memory holds %d images at once: each step adds up the gradients of %d micro-batches"
        _log.info(words, found, -(-share // found))
    return found


def largest(share: int, attempt: Callable[[int], object]) -> int:
    """``share``, or the largest power of two below it with which ``attempt`` succeeds.

    UserError when not even one image fits.
    """
    count = share
    while not _fits(count, attempt):
        if count == 1:
            raise UserError("the GPU's memory does not hold one image of this training: take a smaller train.network")
        count = 1 << (count - 1).bit_length() - 1
    return count


def least(group: Group, count: int) -> int:
    """The smallest ``count`` of all ranks."""
    counts = torch.zeros(group.size, dtype=torch.float64)
    counts[group.rank] = count
    return int(group.sum(counts).min())


def _fits(count: int, attempt: Callable[[int], object]) -> bool:
    try:
        attempt(count)
        return True
    except torch.OutOfMemoryError:
        pass
    # Not inside the except block, where the exception still refers to the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
