"""A pure function over batches in worker processes, results in order: on this machine, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from components.base import on_ray, processes
from components.base import workers as local
from components.base.errors import UserError
from components.base.workers import Function, Item, Lost, Result

More = TypeVar("More")

ENGINE, ADDRESS = "STILLROOM_ENGINE", "STILLROOM_RAY_ADDRESS"
"""Environment: the engine (local or ray), and which Ray cluster.  Not parameters: they change no result."""


def workers() -> int:
    """How many processes work at once on this machine: one for each core."""
    return processes.cores()


def engine() -> str:
    """``local`` or ``ray``."""
    found = os.environ.get(ENGINE) or "local"
    if found not in ("local", "ray"):
        raise UserError(f"{ENGINE}={found}: not an engine (they are local and ray)")
    return found


def ordered(
    function: Function[Item, Result],
    batches: Iterable[list[Item]],
    *,
    lost: Lost[Item, Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[list[Result]]:
    """``function`` of each batch, in order, from worker processes; a few batches are under way at a time.

    ``function`` must be picklable; a worker imports the modules ``preload`` first.  When a worker dies (the decoder
    crashed, or a limit was reached) each item of its batch is tried again alone, and where the machine stopped it
    once more.  For an item that kills its worker again the result is ``lost(item, loss)``, where ``loss`` says why, and
    whether that is a fact about the item; without ``lost`` it is a UserError.
    """
    if engine() == "ray":
        address = os.environ.get(ADDRESS) or on_ray.LOCAL
        return on_ray.ordered(function, batches, address=address, lost=lost, preload=preload)
    return local.ordered(function, batches, count=workers(), lost=lost, preload=preload)


def batched(
    items: Iterable[tuple[bytes, More]], *, count: int = 64, size: int = 8 * 2**20
) -> Iterator[list[tuple[bytes, More]]]:
    """``items`` (bytes, anything) in lists of at most ``count``, each of about ``size`` bytes at most."""
    batch: list[tuple[bytes, More]] = []
    held = 0
    for item in items:
        batch.append(item)
        held += len(item[0])
        if len(batch) >= count or held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
