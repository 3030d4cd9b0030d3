"""Removes the bytes of withdrawn images from data/raw; their rows stay, as tombstones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.base import files
from components.base.errors import UserError
from components.samples import manifest, shards


def stored(index: dict[str, list], withdrawn: set[str]) -> list[int]:
    """The rows of ``index`` whose image is in ``withdrawn`` and has its bytes."""
    return [at for at, sha256 in enumerate(index["sha256"]) if sha256 in withdrawn and index["shard"][at]]


def erase(raw: Path, index: dict[str, list], withdrawn: set[str]) -> list[str]:
    """Make tombstones of the rows of ``index`` whose image is in ``withdrawn``; the shards to remove after that.

    The other images of these shards are written to new shards, which ``index`` then names.  The old shards stay until
    the index is written: a killed run leaves the old state, or new shards that no index names.
    """
    doomed = stored(index, withdrawn)
    gone: dict[str, set[int]] = {}
    for at in doomed:
        gone.setdefault(index["shard"][at], set()).add(index["row"][at])
        index["shard"][at], index["row"][at] = "", -1
        index["member"][at], index["withdrawn"][at], index["text"][at] = False, True, None
    number = shards.following(raw)
    staying: dict[str, list[int]] = {}
    for at, shard in enumerate(index["shard"]):
        if shard in gone:
            staying.setdefault(shard, []).append(at)
    for old in sorted(gone):
        if stay := staying.get(old):
            kept = _rewrite(raw / old, raw / shards.shard_name(number), gone[old])
            for at in stay:
                index["shard"][at], index["row"][at] = shards.shard_name(number), int(kept[index["row"][at]])
            number += 1
    return sorted(gone)


def _rewrite(old: Path, new: Path, gone: Iterable[int]) -> np.ndarray:
    """Write the rows of ``old`` that are not ``gone`` to ``new``; the new position of each old row."""
    try:
        with pq.ParquetFile(old) as file, files.replacing(new) as beside:
            stays = np.ones(file.metadata.num_rows, bool)
            stays[list(gone)] = False
            with manifest.writer(beside, manifest.SHARD) as writer:
                start = 0
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, use_threads=False)
                    kept = table.filter(pa.array(stays[start : start + len(table)]))
                    if len(kept):
                        writer.write_table(kept.cast(manifest.SHARD))
                    start += len(table)
    except (pa.ArrowException, IndexError) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{old}: cannot be read ({line}): `dvc checkout` brings it back") from None
    return np.cumsum(stays) - 1
