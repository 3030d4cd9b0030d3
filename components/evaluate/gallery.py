"""Equal rows of pictures for the report: as many samples of a rare label as of a common one, and real images.

gallery.json    {"rows", "side" or "height" and "width", "channels", "class_ids": of each extra sample, and of
                several shapes "sizes": [[height, width, rows], ...] inside their frame,
                "labels": [{"class_id", "samples": numbers in the table of samples, "extra": places in gallery.u8,
                "real": rows of the pack}, ...]}
gallery.u8      the extra samples, rows x height x width x channels bytes
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from components.evaluate import shapes
from components.model import grid
from components.samples import spec as specs

PER_LABEL, LABELS = 8, 40
"""Pictures of a label, and labels that have a row: those with the most training images."""


def labels(train_ids: Sequence[int]) -> list[int]:
    """The class ids that have a row, ascending, with -1 (no label) last."""
    count = Counter(train_ids)
    chosen = sorted(count, key=lambda number: (-count[number], number))[:LABELS]
    return sorted(chosen, key=lambda number: (number < 0, number))


def wanted(train_ids: Sequence[int], class_ids: Sequence[int]) -> list[int]:
    """The class ids of the extra samples that fill each row, beside the samples of ``class_ids``."""
    have = Counter(class_ids)
    return [number for number in labels(train_ids) for _ in range(PER_LABEL - min(PER_LABEL, have[number]))]


def write(
    folder: Path, extra: Sequence[int], made: Sequence[Tensor], *, rows: Sequence[int], train_ids: Sequence[int],
    class_ids: Sequence[int], order: Sequence[int],
) -> None:  # fmt: skip
    """Write both files; ``rows`` are the training rows of the pack, of the classes ``train_ids``.

    ``made``: the extra samples in runs of one shape; ``order``: of the places in ``class_ids``, in which samples are
    chosen.
    """
    framed = grid.framed(made)
    entries: list[dict[str, Any]] = []
    for number in labels(train_ids):
        real = [row for row, other in zip(rows, train_ids, strict=True) if other == number]
        count = min(PER_LABEL, len(real))
        entries.append({
            "class_id": number,
            "samples": [at for at in order if class_ids[at] == number][:PER_LABEL],
            "extra": [at for at, other in enumerate(extra) if other == number],
            "real": [real[at * len(real) // count] for at in range(count)],
        })  # fmt: skip
    shape = {"rows": len(extra), **specs.sizes(framed.shape[1:]), **shapes.sizes(made)}
    text = json.dumps({**shape, "class_ids": list(extra), "labels": entries}, indent=1)
    (folder / "gallery.json").write_text(text + "\n", "utf-8")
    (folder / "gallery.u8").write_bytes(framed.contiguous().numpy().tobytes())
