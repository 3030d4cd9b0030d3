"""A list of URLs as a source: csv, jsonl, parquet, or plain text with one URL a line.

Only ``stillroom look`` uses the network (gather.py); ``UrlList`` reads what that left in the store.
A list is data from outside: a bad line is refused and listed, a missing column is an error.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.base.errors import UserError
from components.collect.memory import Memory
from components.collect.params import UrlsSource
from components.collect.sources import tables
from components.collect.sources.source import Annotation, File, Item, Print, Refusal, Survey
from components.collect.web.store import Entry, Store, Writer
from components.collect.web.url import Url, parse

SUFFIXES = (".csv", ".jsonl", ".parquet", ".txt")
_NOT_YET = Entry(reason="not_fetched", detail="not fetched yet: run `stillroom look`")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list: its URL, and what it says of the image there."""

    address: str = field(repr=False)
    key: str
    """The image's name everywhere: the URL without its secrets (Url.key)."""
    text: str | None
    label: str | None
    group: str | None
    line: int

    @property
    def url(self) -> Url:
        """The address, taken apart."""
        return parse(self.address)


def read_list(name: str, blob: bytes, source: UrlsSource) -> tuple[list[Row], list[Refusal]]:
    """The rows of the list ``name``, each URL once, and the lines that are no URL; UserError when it is no list."""
    found: list[Row] = []
    refusals: list[Refusal] = []
    for line, record, wrong in _records(name, blob, source):
        where = f"{name} line {line}"
        if wrong:
            refusals.append(Refusal(where, "bad_row", wrong))
            continue
        address = record[source.url_column] if source.url_column else record[""]
        try:
            if not isinstance(address, str) or not address.strip():
                raise ValueError("no text")
            key = parse(address).key()
        except ValueError as error:  # the line's number, and not what stands there: it may hold a password
            refusals.append(Refusal(where, "bad_url", f"{error}"))
            continue
        try:
            text, label, group = (
                tables.plain(record[column], f"{where}, column '{column}'") if column else None
                for column in (source.text_column, source.label_column, source.group_column)
            )
        except UserError as error:
            refusals.append(Refusal(key, "bad_text", str(error)))
            continue
        # Most addresses are their own names: one object is half the memory of two.
        found.append(Row(key if key == address else address, key, text, label, group, line))
    return _named(name, found, refusals), refusals


def _named(name: str, found: Sequence[Row], refusals: list[Refusal]) -> list[Row]:
    """``found``, each address once; where several differ in a secret alone, that is what tells them apart."""
    first: dict[str, Row] = {}
    differing = {
        row.key
        for row in found
        if (one := first.setdefault(row.key, row)) is not row and one.url.target != row.url.target
    }
    if differing:
        first.clear()  # they get other names
    rows = []
    for row in found:
        key = row.url.key(apart=True) if row.key in differing else row.key
        one = first.setdefault(key, row)
        if one is row:
            rows.append(replace(row, key=key) if key != row.key else row)
        else:
            detail = f"{name} line {row.line}; what {name} line {one.line} says counts"
            refusals.append(Refusal(key, "url_twice", detail))
    return rows


def open_list(source: UrlsSource, file: File, store: Path) -> UrlList:
    """The list ``file`` with what ``store`` holds of it."""
    return UrlList(*read_list(file.name, file.read_bytes(), source), store, name=source.name)


class UrlList:
    """What the store holds of a list's URLs: the one part of a source of kind ``urls``, read without the network."""

    form = "urls"

    def __init__(self, rows: Sequence[Row], refusals: Sequence[Refusal], store: Path | Store, *, name: str) -> None:
        self._rows, self._refusals, self._name = rows, refusals, name
        self._store = store if isinstance(store, Store) else Store(store)

    def fingerprint(self, memory: Memory) -> Print:
        """Size and number of the images, a SHA-256 of what came of each URL, and how often each failed and why."""
        size = images = 0
        reasons = Counter(refusal.reason for refusal in self._refusals)
        digest = hashlib.sha256()
        for row in sorted(self._rows, key=lambda row: row.key):
            entry = self._store.entries.get(row.key, _NOT_YET)
            if entry.sha256:
                size, images = size + entry.size, images + 1
            else:
                reasons[entry.reason] += 1
            record = [row.key, row.text, row.label, row.group, entry.sha256, entry.reason, entry.detail]
            digest.update(json.dumps(record).encode() + b"\n")
        for refusal in self._refusals:
            digest.update(json.dumps([refusal.key, refusal.reason, refusal.detail]).encode() + b"\n")
        return Print(size, images, digest.hexdigest(), dict(sorted(reasons.items())))

    def survey(self, memory: Memory) -> Survey:
        """Its images, unread, and what the list says of each."""
        items, refusals = self.listing()
        rows = {row.key: row for row in self._rows}
        annotations = [Annotation(row.text, row.label, row.group) for row in (rows[item.key] for item in items)]
        return Survey([item._replace(sha256=item.location.sha256) for item in items], annotations, refusals, 0)

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every image in the store and every refusal, each sorted by key."""
        items, refusals = [], list(self._refusals)
        for row in self._rows:
            entry = self._store.entries.get(row.key, _NOT_YET)
            if entry.sha256:
                items.append(Item(row.key, entry.size, entry))
            else:
                refusals.append(Refusal(row.key, entry.reason, entry.detail))
        return sorted(items, key=lambda item: item.key), sorted(refusals, key=lambda each: (each.key, each.detail))

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given; UserError when the store is damaged: the next look repairs it."""
        for item in items:
            data = self._store.read(item.location)
            if data is None:
                with Writer(self._store.folder, name=self._name) as writer:
                    writer.forget([item.key])
                raise UserError(
                    f"source {self._name}: the bytes of {item.key} were damaged on the disk: run `stillroom look`, "
                    "which fetches them again"
                )
            yield item, data

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Nothing: the store knows the hash of each image."""


def _records(name: str, blob: bytes, source: UrlsSource) -> Iterator[tables.Row]:
    """The lines of a list; in plain text the URL's column is called ''."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{name}: not a list of URLs: its name should end in {', '.join(SUFFIXES)}")
    wanted = [source.url_column, source.text_column, source.label_column, source.group_column]
    if suffix == ".txt":
        if any(wanted):
            raise UserError(f"{name}: plain text has no columns: set {_columns(wanted)} to null in params.yaml")
        for number, line in enumerate(tables.decode(blob).splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield number, {"": line}, ""
        return
    if not source.url_column:
        raise UserError(f"{name}: url_column is null: name the column that holds the URLs (params.yaml)")
    columns = [column for column in wanted if column]
    yield from _parquet(name, blob, columns) if suffix == ".parquet" else tables.rows(name, blob, columns)


def _parquet(name: str, blob: bytes, wanted: list[str]) -> Iterator[tables.Row]:
    try:
        file = pq.ParquetFile(io.BytesIO(blob))
        for column in wanted:
            if column not in file.schema_arrow.names:
                raise tables.no_column(name, column, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(columns=sorted(set(wanted)), use_threads=False):
            for record in batch.to_pylist():
                number += 1
                yield number, record, ""
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name}: not a Parquet table that can be read: write it again") from None


def _columns(wanted: list[str | None]) -> str:
    names = ("url_column", "text_column", "label_column", "group_column")
    return ", ".join(name for name, value in zip(names, wanted, strict=True) if value)
