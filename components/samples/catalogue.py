"""Every image that data/raw ever held, and how to find one: by SHA-256, by name, by source, by likeness."""

from __future__ import annotations

import bisect
import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.samples import manifest

Row = dict[str, Any]
LEAST_DIGITS = 8  # of a SHA-256 that may stand for it


@dataclass(frozen=True)
class Known:
    """Every image: ``rows`` of the index and the verdicts joined, and the ``pairs``, by SHA-256 and SHA-256."""

    rows: list[Row]
    pairs: Mapping[str, Mapping[str, str]]

    @functools.cached_property
    def _digests(self) -> list[str]:
        return sorted({row["sha256"] for row in self.rows})

    @functools.cached_property
    def _by_name(self) -> dict[tuple[str, str], set[str]]:
        found: dict[tuple[str, str], set[str]] = {}
        for row in self.rows:
            found.setdefault((row["source"], row["source_key"]), set()).add(row["sha256"])
        return found

    def named(self, word: str) -> set[str]:
        """The SHA-256 that ``word`` means: itself, 8 or more of its first digits, or source:name."""
        source, colon, key = word.partition(":")
        if colon:
            found = self._by_name.get((source, key), set())
            if not found:
                raise UserError(f"{word}: no image of that name in data/raw (wanted source:name, or a SHA-256)")
            return found
        digits = word.lower()
        if len(digits) < LEAST_DIGITS or set(digits) - set("0123456789abcdef") or len(digits) > 64:
            raise UserError(f"{word}: wanted a SHA-256, {LEAST_DIGITS} or more of its first digits, or source:name")
        within = (bisect.bisect_left(self._digests, end) for end in (digits, digits + "g"))  # g follows on f
        found = set(self._digests[slice(*within)])
        if not found:
            raise UserError(f"{word}: no image in data/raw has this SHA-256")
        if len(found) > 1:
            raise UserError(f"{word}: {len(found)} images begin like that: give more digits")
        return found

    def of_source(self, name: str) -> set[str]:
        """The SHA-256 of every image that source ``name`` ever held and that is not withdrawn yet."""
        sources = sorted({row["source"] for row in self.rows})
        if name not in sources:
            raise UserError(f"--source {name}: no image came from it; the sources are {', '.join(sources)}")
        return {row["sha256"] for row in self.rows if row["source"] == name and not row["withdrawn"]}

    def near(self, names: Iterable[str]) -> set[str]:
        """The images that look like ``names``, without themselves; those that share only a named group do not."""
        asked = set(names)
        return {
            other for name in asked for other, method in self.pairs.get(name, {}).items() if method != "group"
        } - asked

    def same_pixels(self, names: Iterable[str]) -> list[Row]:
        """Rows of other files that show the very same pixels as ``names`` and are not withdrawn."""
        asked = set(names)
        shown = {row["pixel_sha256"] for row in self.rows if row["sha256"] in asked} - {None}
        return [row for row in self.rows
                if row["pixel_sha256"] in shown and row["sha256"] not in asked and not row["withdrawn"]]  # fmt: skip

    def tombstones(self, names: Iterable[str], reason: str) -> list[Row]:
        """The lines of data/withdrawn.jsonl for the images ``names``, in order of arrival."""
        asked = set(names)
        made: dict[str, Row] = {}
        for row in self.rows:
            if row["sha256"] in asked and row["sha256"] not in made:
                facts = {name: row[name] for name in ("pixel_sha256", "phash", "width", "height")}
                pairs = sorted(self.pairs.get(row["sha256"], {}).items())
                made[row["sha256"]] = {
                    "sha256": row["sha256"], "source": row["source"], "source_key": row["source_key"],
                    "reason": reason, **facts, "pairs": [list(pair) for pair in pairs],
                }  # fmt: skip
        return list(made.values())


def read(*, raw: Path, clean: Path) -> Known:
    """What is known of every image; UserError when data/raw or data/clean is not there."""
    named = ("arrival", "sha256", "source", "source_key", "matte", "member", "withdrawn")
    judged = ("verdict", "reason", "label", "pixel_sha256", "phash", "width", "height")
    index = manifest.read_any(raw / "index.parquet", named)
    verdicts = {row["arrival"]: row for row in manifest.read_any(clean / "verdicts.parquet", ("arrival", *judged))}
    blank = dict.fromkeys(judged)
    rows = [{**blank, **verdicts.get(row["arrival"], {}), **row} for row in index]
    by_arrival = {row["arrival"]: row["sha256"] for row in rows}
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for pair in manifest.read_any(clean / "pairs.parquet", ("a", "b", "how")):
        one, other = by_arrival.get(pair["a"]), by_arrival.get(pair["b"])
        if one and other and one != other:
            pairs[one].setdefault(other, pair["how"])
            pairs[other].setdefault(one, pair["how"])
    return Known(rows, pairs)
