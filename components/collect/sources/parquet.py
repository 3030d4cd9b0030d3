"""Kind ``parquet``: images in the rows of Parquet files, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.base.errors import UserError, printable
from components.collect.memory import Memory
from components.collect.params import ParquetSource
from components.collect.sources import tables
from components.collect.sources.imagefiles import of_file, too_big
from components.collect.sources.source import Annotation, File, Item, Print, Refusal, Survey, safe_key, why

_ROWS = 16  # read at a time: a row may hold max_bytes
_BUFFER = 2**20  # bytes of a column read ahead
_BOMB = (2**30, 200)  # a column of more bytes than this that packs better than this is no column of images


class ParquetRows:
    """One Parquet file; an image is called ``file/path`` when its row says a path that no other one does, else
    ``file/row`` with the row's number."""

    form = "parquet"

    def __init__(self, file: File, source: ParquetSource, *, key: str, max_bytes: int) -> None:
        self._file, self._source, self._key, self._max_bytes = file, source, key, max_bytes

    def fingerprint(self, memory: Memory) -> Print:
        """The file's bytes, or what its store says of them."""
        return of_file(self._file, memory, self._count)

    def survey(self, memory: Memory) -> Survey:
        """Its rows, unread, and what the other columns say of each."""
        with self._open() as parquet:
            image = self._check(parquet)
            columns = {name: getattr(self._source, f"{name}_column") for name in ("text", "label", "group")}
            wanted = {column for column in columns.values() if column} | ({image.path} if image.path else set())
            table = parquet.read(columns=sorted(wanted), use_threads=False)
            rows = parquet.metadata.num_rows
            paths = self._paths(table) if image.path else []
            columns_by_name = {name: self._values(parquet, table, column) for name, column in columns.items() if column}
        keys, refusals, items, annotations = self._keys(rows, paths), [], [], []
        for at in range(rows):
            try:
                where = f"{self._key} row {at}"
                values = {name: tables.plain(column[at], where) for name, column in columns_by_name.items()}
            except UserError as error:
                refusals.append(Refusal(keys[at], "bad_text", str(error)))
                continue
            items.append(Item(keys[at], 0, at))
            annotations.append(Annotation(**values))
        order = sorted(range(len(items)), key=lambda at: items[at].key)
        return Survey([items[at] for at in order], [annotations[at] for at in order], refusals, 0)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes | Refusal]]:
        """The bytes of ``items`` in the order of their rows, a few rows in memory at a time."""
        wanted = {item.location: item for item in items}
        if not wanted:
            return
        with self._open() as parquet:
            name = self._check(parquet).bytes
            start = 0
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=[name], use_threads=False):
                column = batch.column(0)
                values = column.field("bytes") if pa.types.is_struct(column.type) else column
                for at in range(len(batch)):
                    item = wanted.get(start + at)
                    if item is not None:
                        yield item, self._one(item, values[at] if column[at].is_valid else None)
                start += len(batch)

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Nothing: a file that did not change is not read again."""

    def _one(self, item: Item, value: pa.Scalar | None) -> bytes | Refusal:
        if value is None or not value.is_valid:
            return Refusal(item.key, "no_bytes", "the row holds no bytes; a path alone is not followed")
        size = len(value.as_buffer())
        return value.as_py() if size <= self._max_bytes else too_big(item.key, size, self._max_bytes)

    def _count(self) -> int:
        with self._open() as parquet:
            return parquet.metadata.num_rows

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        try:
            with self._file.open() as stream, pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False) as parquet:
                yield parquet
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:  # the last: a column's name
            raise UserError(f"{self._file}: damaged, or no Parquet ({why(error)}): fetch the file again") from None

    def _check(self, parquet: pq.ParquetFile) -> _Image:
        """Where the images are; UserError when a column is not there or of another type."""
        schema, source = parquet.schema_arrow, self._source
        for name in (source.image_column, source.text_column, source.label_column, source.group_column):
            if name is not None and name not in schema.names:
                raise tables.no_column(str(self._file), name, schema.names)
        kind = schema.field(source.image_column).type
        fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
        if not _binary(fields.get("bytes", kind)):
            wanted = "wanted binary, or a struct of bytes and path"
            raise UserError(f"{self._file}: column '{source.image_column}' holds {kind}, {wanted}")
        path = fields.get("path")
        image = _Image(
            f"{source.image_column}.bytes" if fields else source.image_column,
            f"{source.image_column}.path" if path is not None and pa.types.is_string(path) else None,
        )
        for group in range(parquet.num_row_groups):
            for at in range(parquet.metadata.num_columns):
                column = parquet.metadata.row_group(group).column(at)
                size, packed = column.total_uncompressed_size, column.total_compressed_size
                if size > max(_BOMB[0], _BOMB[1] * packed):
                    where = printable(column.path_in_schema)
                    raise UserError(f"{self._file}: {packed} bytes of {where} claim to unpack to {size}: a bomb")
        return image

    def _values(self, parquet: pq.ParquetFile, table: pa.Table, column: str) -> list[Any]:
        """The values of ``column``; the numbers of a class label become its names."""
        values = table[column].to_pylist()
        names = _class_names(parquet.schema_arrow, column)
        if names is None:
            return values
        return [_named(value, names) for value in values]

    def _paths(self, table: pa.Table) -> list[str | None]:
        found: list[str | None] = table[self._source.image_column].combine_chunks().field("path").to_pylist()
        return found

    def _keys(self, rows: int, paths: list[str | None]) -> list[str]:
        safe = [safe_key(path) if path else ("", "no name") for path in paths] or [("", "no name")] * rows
        times = Counter(key for key, _ in safe)
        named = {at: key for at, (key, unsafe) in enumerate(safe) if not unsafe and times[key] == 1}
        while True:  # a path such as "1" is no name where the row of that number has none
            numbers = {str(at) for at in range(rows) if at not in named}
            taken = [at for at, key in named.items() if key in numbers]
            if not taken:
                return [f"{self._key}/{named.get(at, at)}" for at in range(rows)]
            for at in taken:
                del named[at]


class _Image:
    """The columns in which the bytes and the names of the images lie."""

    def __init__(self, bytes_: str, path: str | None) -> None:
        self.bytes, self.path = bytes_, path


def _binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of a Hugging Face class label, None when ``column`` is none."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _named(value: object, names: list[str]) -> object:
    if value is None or value == -1 or value != value:  # -1 is how `datasets` says that there is no label
        return None
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return [value]  # no text: refused with the row's name
