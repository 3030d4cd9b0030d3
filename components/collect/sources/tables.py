"""Tables in CSV and JSON lines, row by row: a bad row is told and costs no other one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from components.base.errors import UserError, nearest, printable

LONGEST_TEXT = 131_072  # characters of a caption, as of a field in Python's csv
_MOST_BROKEN = 1000  # rows that are not CSV: each costs a look at up to LONGEST_TEXT characters
Row = tuple[int, dict[str, Any], str]
"""The number of its line, its values by column, and what is wrong with it ('' when nothing is)."""


def rows(key: str, blob: bytes, wanted: Collection[str], *, always: str = "") -> Iterator[Row]:
    """The rows of the CSV or JSON lines ``key``; UserError, at the end, when no row has one of the columns ``wanted``.

    Of ``wanted``, ``always`` is one that every such table has, and that params.yaml does not name.
    What a row of JSON lacks is None in it.  UserError too when there are rows and all of them are bad.
    """
    missing, first_good, first_bad = set(wanted), None, None
    for row in _csv(key, blob) if key.lower().endswith(".csv") else _json_lines(key, blob):
        line, values, wrong = row
        if wrong:
            first_bad = first_bad or row
        else:
            first_good = first_good or row
            missing -= values.keys()
        yield line, {**dict.fromkeys(wanted), **values}, wrong
    if first_good:
        for column in sorted(missing):
            raise no_column(f"{key} line {first_good[0]}", column, list(first_good[1]), named=column != always)
    elif first_bad:
        raise UserError(f"{key} line {first_bad[0]}: {first_bad[2]}; no other row of it is a good one")


def no_column(where: str, column: str, names: Sequence[object], *, named: bool = True) -> UserError:
    """The error that says that the table at ``where`` has the columns ``names``, and not ``column``.

    ``named``: params.yaml names it, and not we.
    """
    shown = [str(name) for name in names]
    hint = "section collect of params.yaml names the columns" if named else "each row needs it"
    return UserError(f"{where}: no column '{column}'{nearest(column, shown)}; it has {listed(shown)} ({hint})")


def _csv(key: str, blob: bytes) -> Iterator[Row]:
    lines = list(io.StringIO(decode(blob), newline=""))
    if lines and not _is_text(lines[0]):
        raise UserError(f"{key}: not UTF-8 text: save it as UTF-8")
    start = broken = 0
    names: list[str] = []
    while start < len(lines):
        begun = start
        reader = csv.reader((lines[at] for at in range(begun, len(lines))), strict=True)
        try:
            while True:
                start = begun + reader.line_num
                cells = next(reader)
                line = begun + reader.line_num
                if not names and cells:
                    names = cells
                    if len(set(names)) != len(names):
                        raise UserError(f"{key} line {line}: a column name stands twice in {listed(names)}")
                elif cells:
                    same = len(cells) == len(names)
                    wrong = "" if same else "not as many fields as there are column names"
                    yield line, dict(zip(names, cells, strict=True)) if same else {}, wrong
        except StopIteration:
            break
        except csv.Error as error:  # a quote that is never closed runs to the end: go on behind the line it began in
            broken += 1
            if not names or broken > _MOST_BROKEN:
                raise UserError(f"{key} line {start + 1}: not CSV ({error})") from None
            yield start + 1, {}, f"not CSV ({error})"
            start += 1
    if not names:
        raise UserError(f"{key}: empty: wanted a line of column names")


def _json_lines(key: str, blob: bytes) -> Iterator[Row]:
    for line, text in enumerate(decode(blob).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield line, {}, f"not JSON ({error})"
            continue
        is_object = isinstance(row, dict)
        yield line, row if is_object else {}, "" if is_object else f"holds {type(row).__name__}, wanted an object"


def decode(blob: bytes) -> str:
    """``blob`` as text; bytes that are not UTF-8 become lone surrogates, which ``plain`` refuses where they stand."""
    return blob.decode("utf-8-sig", "surrogateescape")


def plain(value: object, where: str) -> str | None:
    """``value`` as text, None for nothing; UserError naming ``where`` when it is no text and no number."""
    if value is None or value != value:  # NaN, which is how pandas and others say that there is nothing
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: {type(value).__name__}, wanted text")
    text = str(value).strip()
    if len(text) > LONGEST_TEXT or "\0" in text:
        raise UserError(f"{where}: {len(text)} characters, wanted at most {LONGEST_TEXT} and no NUL")
    if not _is_text(text):
        raise UserError(f"{where}: not UTF-8 text, or half a surrogate pair")
    return text or None


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def listed(names: Sequence[str]) -> str:
    """The first dozen of ``names`` for a message."""
    # A table without a header has an address, maybe one with a password, where its columns' names should be.
    shown = ", ".join("(an address)" if "://" in name else printable(name) for name in names[:12])
    return shown[:200] + (" ..." if len(names) > 12 or len(shown) > 200 else "")
