"""``data/raw``: append-only Parquet shards of image bytes, and the index that says what is a member now."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.base import files
from components.base.errors import UserError
from components.samples import manifest

SHARD_BYTES = 256 * 2**20  # image bytes after which the next shard begins
ROW_GROUP_BYTES = 8 * 2**20  # image bytes held in memory before they are written
INDEX, REFUSED = "index.parquet", "refused.parquet"
_BYTES = manifest.SHARD.names.index("bytes")
_NAME = re.compile(r"shard-\d{5}\.parquet")


class ShardWriter:
    """Appends images to new shards of ``folder``; each shard appears when it is whole."""

    def __init__(self, folder: Path, *, first: int, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._number = first - 1
        self._shard_bytes = shard_bytes
        self._open = ExitStack()  # the shard being written
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[tuple[Any, ...]] = []
        self._waiting_bytes = self._bytes = self._rows = 0
        self.whole: list[str] = []
        """The shards that are on the disk; who reads it may take them out."""

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close()
        else:
            self._open.__exit__(kind, error, trace)  # the shard that is not whole goes away

    def add(self, record: tuple[Any, ...]) -> tuple[str, int]:
        """Write one image, the values of manifest.SHARD in order; the shard's name and the row in it."""
        if self._writer is None:
            self._start()
        self._waiting.append(record)
        self._waiting_bytes += len(record[_BYTES])
        self._bytes += len(record[_BYTES])
        location = shard_name(self._number), self._rows
        self._rows += 1
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()
        if self._bytes >= self._shard_bytes:
            self._close()
        return location

    def _start(self) -> None:
        self._number += 1
        path = self._open.enter_context(files.replacing(self._folder / shard_name(self._number)))
        self._writer = self._open.enter_context(manifest.writer(path, manifest.SHARD))
        self._bytes = self._rows = 0

    def _flush(self) -> None:
        if self._waiting and self._writer is not None:
            columns = dict(zip(manifest.SHARD.names, zip(*self._waiting, strict=True), strict=True))
            self._writer.write_table(manifest.table(columns, manifest.SHARD))
        self._waiting, self._waiting_bytes = [], 0

    def _close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer = None
            self._open.close()
            self.whole.append(shard_name(self._number))


def shard_name(number: int) -> str:
    """The file name of shard ``number``."""
    return f"shard-{number:05d}.parquet"


def present(raw: Path) -> list[str]:
    """The file names of the shards in ``raw``, sorted; none where there is no such folder."""
    return sorted(path.name for path in raw.iterdir() if _NAME.fullmatch(path.name)) if raw.is_dir() else []


def following(raw: Path) -> int:
    """The number of the first shard after all that lie in ``raw``."""
    return after(present(raw))


def after(names: Iterable[str]) -> int:
    """The number of the first shard after all of ``names``; '' is none."""
    return 1 + max((int(name[6:11]) for name in names if name), default=-1)


def read_index(raw: Path) -> pa.Table:
    """Every image ever seen, in order of arrival."""
    return manifest.read(raw / INDEX, manifest.INDEX, stage="collect")


def clear_orphans(raw: Path, known: Iterable[str]) -> list[str]:
    """Remove what a killed run left in ``raw``: half-written files, and shards that no index names."""
    files.sweep(raw)
    named = set(known)
    orphans = [name for name in present(raw) if name not in named]
    for name in orphans:
        (raw / name).unlink()
    return orphans


def read_bytes(raw: Path, locations: Sequence[tuple[str, int]]) -> Iterator[tuple[int, bytes]]:
    """(position in ``locations``, bytes) of the images at ``locations`` (shard, row), shard by shard.

    Several locations may be the same.  At most one row group is in memory at a time.
    """
    wanted: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (shard, row) in enumerate(locations):
        wanted[shard][row].append(position)
    for shard in sorted(wanted):
        rows = wanted[shard]
        try:
            yield from _shard_bytes(raw / shard, rows)
        except (OSError, pa.ArrowException) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"{raw / shard}: cannot be read ({line}): `dvc checkout` brings it back") from None


def _shard_bytes(path: Path, rows: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, bytes]]:
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = [row for row in range(start, end) if row in rows]
            if inside:
                column = file.read_row_group(group, columns=["bytes"], use_threads=False)["bytes"]
                for row in inside:
                    data = column[row - start].as_py()
                    for position in rows[row]:
                        yield position, data
            start = end
    missing = max(rows, default=-1)
    if missing >= start:
        raise pa.ArrowInvalid(f"row {missing} of {start}")
