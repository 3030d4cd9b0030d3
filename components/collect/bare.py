"""Takes what files say beside their pictures out of them, before they are stored; in worker processes with limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from components.base import parallel, workers
from components.collect.sources.source import Item, Refusal
from components.decode.picture import Damaged
from components.decode.stripped import stripped

NOT_STRIPPED = "not_stripped"
Bare = tuple[bytes, str]
"""The file without its notes, or why there is none."""


def strip(batch: list[tuple[bytes, None]]) -> list[Bare]:
    """Each file of ``batch`` without its notes; pure."""
    return [_one(data) for data, _ in batch]


def _one(data: bytes) -> Bare:
    try:
        return stripped(data), ""
    except Damaged as damaged:
        return b"", damaged.detail
    except Exception as error:  # Pillow raises what it likes on broken files
        return b"", f"its notes cannot be told from its picture ({type(error).__name__})"


def each(items: Iterable[tuple[Item, bytes]]) -> Iterator[tuple[Item, bytes | Refusal]]:
    """``items``, in their order, with their files bare."""
    order: list[Item] = []

    def load() -> Iterator[tuple[bytes, None]]:
        for item, data in items:
            order.append(item)
            yield data, None

    done = 0
    for found in parallel.ordered(strip, parallel.batched(load()), lost=_lost, preload=["components.decode.stripped"]):
        for data, why in found:
            yield order[done], Refusal(order[done].key, NOT_STRIPPED, why) if why else data
            done += 1


def _lost(item: tuple[bytes, None], loss: workers.Loss) -> Bare:
    return b"", f"{loss.why}, on these {len(item[0])} bytes"
