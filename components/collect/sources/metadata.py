"""Captions and labels from metadata.csv or metadata.jsonl (Hugging Face's imagefolder convention)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.base.errors import UserError, nearest, printable
from components.collect.sources.source import safe_key

FILE_COLUMN = "file_name"
LONGEST_TEXT = 131_072  # characters of a caption, as of a field in Python's csv


@dataclass(frozen=True)
class Caption:
    """What one row says: ``key`` from the source's top, ``unsafe`` when its name could leave it."""

    key: str
    text: str | None
    label: str | None
    group: str | None
    unsafe: str
    where: str


def parse(
    key: str, blob: bytes, *, text_column: str | None, label_column: str | None, group_column: str | None
) -> Iterator[Caption]:
    """The rows of the metadata file ``key``; UserError naming the line of what cannot be understood."""
    folder = PurePosixPath(key).parent
    rows = csv_rows(key, blob) if key.lower().endswith(".csv") else jsonl_rows(key, blob)
    for line, row in rows:
        where = f"{key} line {line}"
        values = {}
        for column in (FILE_COLUMN, text_column, label_column, group_column):
            if column is None:
                continue
            if column not in row:
                names = [str(name) for name in row]
                wanted = "" if column == FILE_COLUMN else " (params.yaml, section collect; null for none)"
                raise UserError(
                    f"{where}: no column '{column}'{nearest(column, names)}; it has {listed(names)}{wanted}"
                )
            values[column] = plain(row[column], f"{where}, column '{column}'")
        name = values[FILE_COLUMN]
        if name is None:
            raise UserError(f"{where}: '{FILE_COLUMN}' is empty")
        inner, unsafe = safe_key(name)
        full = inner if str(folder) == "." else f"{folder}/{inner}"
        text, label, group = (values[name] if name else None for name in (text_column, label_column, group_column))
        yield Caption(full, text, label, group, unsafe, where)


def csv_rows(key: str, blob: bytes) -> Iterator[tuple[int, dict]]:
    """The rows of a CSV with their line numbers; UserError naming the line of what is none."""
    reader = csv.DictReader(io.StringIO(decode(key, blob), newline=""), strict=True)
    try:
        if not reader.fieldnames:
            raise UserError(f"{key}: empty: wanted a line of column names, '{FILE_COLUMN}' among them")
        if len(set(reader.fieldnames)) != len(reader.fieldnames):
            raise UserError(f"{key} line 1: a column name stands twice in {listed(reader.fieldnames)}")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{key} line {reader.line_num}: not as many fields as there are column names")
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{key} line {reader.line_num + 1}: not CSV ({error})") from None


def jsonl_rows(key: str, blob: bytes) -> Iterator[tuple[int, dict]]:
    """The objects of a file of JSON lines with their line numbers; UserError naming the line of what is none."""
    for line, text in enumerate(decode(key, blob).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{key} line {line}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{key} line {line}: holds {type(row).__name__}, wanted an object")
        yield line, row


def decode(key: str, blob: bytes) -> str:
    """``blob`` as text; UserError when the file ``key`` is not UTF-8."""
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if "\0" in text:
        raise UserError(f"{key}: holds a NUL at character {text.index(chr(0))}: not a text file")
    return text


def plain(value: object, where: str) -> str | None:
    """``value`` as text, None for nothing; UserError naming ``where`` when it is no text and no number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: {type(value).__name__}, wanted text")
    text = str(value).strip()
    if len(text) > LONGEST_TEXT or "\0" in text:
        raise UserError(f"{where}: {len(text)} characters, wanted at most {LONGEST_TEXT} and no NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: half a surrogate pair, not Unicode text") from None
    return text or None


def listed(names: Sequence[str]) -> str:
    """The first dozen of ``names`` for a message."""
    # A table without a header has an address, maybe one with a password, where its columns' names should be.
    shown = ", ".join("(an address)" if "://" in name else printable(name) for name in names[:12])
    return shown[:200] + (" ..." if len(names) > 12 or len(shown) > 200 else "")
