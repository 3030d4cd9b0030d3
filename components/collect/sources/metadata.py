"""Captions and labels from metadata.csv or metadata.jsonl (Hugging Face's imagefolder convention)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from components.base.errors import UserError
from components.collect.sources.source import Annotation, safe_key
from components.collect.sources.tables import plain, rows

FILE_COLUMN = "file_name"


@dataclass(frozen=True)
class Caption:
    """What the row at ``where`` says of the image ``key`` (from the source's top), or why that cannot be used.

    Then ``reason`` is one word and ``detail`` one sentence, and ``key`` is ``where`` when the row names no image.
    """

    key: str
    where: str
    annotation: Annotation = field(default_factory=Annotation)
    reason: str = ""
    detail: str = ""


def parse(
    key: str, blob: bytes, *, text_column: str | None, label_column: str | None, group_column: str | None
) -> Iterator[Caption]:
    """The rows of the metadata file ``key``; UserError when it is no table, or lacks one of the columns."""
    folder = PurePosixPath(key).parent
    columns = (text_column, label_column, group_column)
    for line, row, wrong in rows(key, blob, [FILE_COLUMN, *filter(None, columns)], always=FILE_COLUMN):
        where = f"{key} line {line}"
        try:
            name = None if wrong else plain(row[FILE_COLUMN], f"column '{FILE_COLUMN}'")
        except UserError as error:
            name, wrong = None, str(error)
        if name is None:
            yield Caption(where, where, reason="bad_row", detail=wrong or f"'{FILE_COLUMN}' is empty")
            continue
        inner, unsafe = safe_key(name)
        full = inner if str(folder) == "." else f"{folder}/{inner}"
        if unsafe:
            yield Caption(full, where, reason="unsafe_name", detail=f"{where}: {unsafe}")
            continue
        try:
            values = (plain(row[column], f"{where}, column '{column}'") if column else None for column in columns)
            yield Caption(full, where, Annotation(*values))
        except UserError as error:
            yield Caption(full, where, reason="bad_text", detail=str(error))
