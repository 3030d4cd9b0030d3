"""The gradient of a rank's share of the batch in pieces that fit into memory, and how large a piece may be.

Shapes: B images of this rank's share; a piece is at most ``micro`` of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from components.base.errors import UserError
from components.train.distributed.ranks import Group

Micro = Literal["auto"] | int

_log = logging.getLogger(__name__)


def backward(
    model: nn.Module, losses: Callable[[slice], Tensor], share: int, micro: int, scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Add the gradient of the mean of ``losses`` to the weights' and return them detached, (B,).

    ``losses`` computes those of a slice of the share; ``scale`` is that of the gradient scaler.  Ranks exchange
    gradients once, with the last piece.
    """
    found = []
    for first in range(0, share, micro):
        piece = slice(first, min(first + micro, share))
        with _unsynchronised(model, piece.stop < share):
            part = losses(piece)
            # The mean of one whole piece is just that: times 1.
            scale(part.mean() * (len(part) / share)).backward()
        found.append(part.detach())
    return found[0] if len(found) == 1 else torch.cat(found)


@contextlib.contextmanager
def _unsynchronised(model: nn.Module, apart: bool) -> Iterator[None]:
    """While the body runs no gradient is exchanged between ranks, if ``apart``."""
    if apart and isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif apart and isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def size(wanted: Micro, share: int, group: Group, attempt: Callable[[int], object]) -> int:
    """Images of a piece: ``wanted``, at most ``share``; auto: all on the CPU, on CUDA what fits every rank.

    ``attempt`` computes a gradient of so many images and leaves no trace; torch.OutOfMemoryError says that they are
    too many.  The search for a fit is tested with an attempt that fails by itself: it has not met a real GPU's end.
    """
    if wanted != "auto":
        return min(wanted, share)
    if group.device.type != "cuda":
        return share
    found = least(group, largest(share, attempt))
    if found < share and group.rank == 0:
        _log.info("memory takes %d images at once: each step adds up %d pieces", found, -(-share // found))
    return found


def largest(share: int, attempt: Callable[[int], object]) -> int:
    """``share``, or the largest power of two below it whose attempt does not run out of memory."""
    count = share
    while not _fits(count, attempt):
        if count == 1:
            raise UserError("the GPU's memory does not hold one image of this training: take a smaller train.network")
        count = 1 << (count - 1).bit_length() - 1
    return count


def least(group: Group, count: int) -> int:
    """The smallest ``count`` of all ranks."""
    told = torch.zeros(group.size, dtype=torch.float64)
    told[group.rank] = count
    return int(group.sum(told).min())


def _fits(count: int, attempt: Callable[[int], object]) -> bool:
    try:
        attempt(count)
        return True
    except torch.OutOfMemoryError:
        pass
    # Here, since the exception's frames held the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
