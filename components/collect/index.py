"""The index of data/raw in memory, as columns: what is known, what is a member, what arrives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from components.base import files
from components.collect.params import AnySource
from components.collect.sources.source import Annotation, Refusal
from components.samples import manifest, shards

Location = tuple[str, int]
"""A shard's name and the row in it."""


class Index:
    """Every image ever seen, one row each in order of arrival; ``columns`` are lists by name."""

    def __init__(self, raw: Path) -> None:
        there = (raw / shards.INDEX).exists()
        self.columns: dict[str, list] = (
            shards.read_index(raw).to_pydict() if there else {name: [] for name in manifest.INDEX.names}
        )
        self.counts: Counter[str] = Counter()
        self._was = list(self.columns["member"])
        self.columns["member"] = [False] * len(self._was)

    @cached_property
    def locations(self) -> dict[str, Location]:
        """Where the bytes of each image lie, by SHA-256."""
        columns = zip(*(self.columns[name] for name in ("sha256", "shard", "row")), strict=True)
        return {sha256: (shard, row) for sha256, shard, row in columns if shard}

    def offered(self, withdrawn: Collection[str]) -> list[tuple[str, str, str]]:
        """(source, key, SHA-256) of the images in ``withdrawn`` that were members until now."""
        columns = zip(*(self.columns[name] for name in ("source", "source_key", "sha256")), self._was, strict=True)
        return [row[:3] for row in columns if row[3] and row[2] in withdrawn]

    def stay(self, source: str, parts: Collection[str]) -> None:
        """Members of ``source`` that lie in ``parts`` stay members."""
        for at in self._rows[source] if parts else ():
            if self._was[at] and not self.columns["withdrawn"][at]:
                self.columns["member"][at] = part_of(self.columns["source_key"][at], parts) is not None

    def arrivals(self, source: AnySource) -> Arrivals:
        """Takes in what ``source`` holds."""
        return Arrivals(self, source, self._rows[source.name])

    def write(self, raw: Path) -> None:
        """Write it to ``raw``."""
        with files.replacing(raw / shards.INDEX) as beside:
            manifest.write(beside, manifest.table(self.columns, manifest.INDEX))

    @property
    def vanished(self) -> int:
        """How many were members and are none any more."""
        return sum(was and not now for was, now in zip(self._was, self.columns["member"], strict=False))

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        found = defaultdict(list)
        for at, source in enumerate(self.columns["source"]):
            found[source].append(at)
        return found


class Arrivals:
    """Takes in the images of one source; those that are new are appended in order of their keys."""

    def __init__(self, index: Index, source: AnySource, rows: list[int]) -> None:
        self._index, self._source = index, source
        self._columns = index.columns
        self._known = {(self._columns["source_key"][at], self._columns["sha256"][at]): at for at in rows}
        self._new: list[tuple] = []

    def take(self, key: str, sha256: str, size: int, annotation: Annotation, location: Location) -> None:
        """Take in one image whose bytes lie at ``location``."""
        at = self._known.get((key, sha256))
        if at is None:
            self._new.append((key, sha256, size, annotation, location))
            return
        columns, licence, matte = self._columns, self._source.licence, self._source.matte
        now = {"text": annotation.text, "label": annotation.label, "group_key": annotation.group, "licence": licence,
               "matte": matte, "shard": location[0], "row": location[1]}  # fmt: skip
        self._index.counts["updated"] += any(columns[name][at] != value for name, value in now.items())
        for name, value in now.items():
            columns[name][at] = value
        columns["member"][at], columns["withdrawn"][at] = True, False

    def append(self) -> None:
        """Append what is new to the index."""
        if not self._new:
            return
        keys, hashes, sizes, annotations, locations = zip(*sorted(self._new, key=lambda row: row[0]), strict=True)
        count, first = len(keys), len(self._columns["arrival"])
        text, label, group = zip(*annotations, strict=True)
        shard, row = zip(*locations, strict=True)
        new = {
            "arrival": range(first, first + count), "sha256": hashes, "source": [self._source.name] * count,
            "source_key": keys, "text": text, "label": label, "licence": [self._source.licence] * count,
            "group_key": group, "matte": [self._source.matte] * count, "size": sizes, "shard": shard, "row": row,
            "member": [True] * count, "withdrawn": [False] * count,
        }  # fmt: skip
        for name, values in new.items():
            self._columns[name].extend(values)
        self._index.counts["arrived"] += count


class Refused:
    """What was not taken in: data/raw/refused.parquet."""

    def __init__(self, raw: Path) -> None:
        there = (raw / shards.REFUSED).exists()
        table = manifest.read(raw / shards.REFUSED, manifest.REFUSED, stage="collect") if there else None
        self._before: dict[str, list[Refusal]] = defaultdict(list)
        for row in table.to_pylist() if table else ():
            self._before[row["source"]].append(Refusal(row["source_key"], row["reason"], row["detail"]))
        self._rows: dict[str, list[Refusal]] = {}

    def stay(self, source: str, parts: Collection[str] | None) -> None:
        """What was refused of ``parts`` of ``source`` stays refused; of all of it when ``parts`` is None."""
        before = self._before.get(source, [])
        self._rows[source] = [each for each in before if parts is None or part_of(each.key, parts) is not None]

    def add(self, source: str, refusal: Refusal) -> None:
        """Refuse one more thing of ``source``."""
        self._rows[source].append(refusal)

    def reasons(self) -> Counter[str]:
        """How often each reason was given."""
        return Counter(each.reason for rows in self._rows.values() for each in rows)

    def write(self, raw: Path) -> None:
        """Write it to ``raw``."""
        with files.replacing(raw / shards.REFUSED) as beside:
            manifest.write(beside, self._table())

    def _table(self) -> pa.Table:
        rows = list(self._sorted())
        values = zip(*rows, strict=True) if rows else ([] for _ in manifest.REFUSED.names)
        return manifest.table(dict(zip(manifest.REFUSED.names, values, strict=True)), manifest.REFUSED)

    def _sorted(self) -> Iterator[tuple[str, str, str, str]]:
        for source, rows in self._rows.items():
            for each in sorted(rows, key=lambda each: (each.key, each.reason, each.detail)):
                yield source, each.key, each.reason, each.detail


def part_of(key: str, parts: Collection[str]) -> str | None:
    """The one of ``parts`` in which ``key`` lies, None when in none of them."""
    if "" in parts:
        return ""
    at = key.find("/")
    while at >= 0:
        if key[:at] in parts:
            return key[:at]
        at = key.find("/", at + 1)
    return key if key in parts else None
