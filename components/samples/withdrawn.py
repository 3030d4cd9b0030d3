"""``data/withdrawn.jsonl``: what was taken back by hand, one image a line, without its bytes.

    {"sha256": ..., "source": ..., "source_key": ..., "reason": ..., "pixel_sha256": ... | null, "phash": ... | null,
     "width": px | null, "height": px | null, "pairs": [[SHA-256 of the other, how], ...]}

Stage `collect` takes the bytes out and keeps the place; `clean` holds the groups together by ``pairs``, so that no
other image moves.  Lines are only added.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.base import files
from components.base.errors import UserError

Row = dict[str, Any]
LEAST_DIGITS = 8  # of a SHA-256 that may stand for it


@dataclass(frozen=True)
class Known:
    """Every image in the record: ``rows`` of the index and the verdicts joined, ``pairs`` of SHA-256 by SHA-256."""

    rows: list[Row]
    pairs: Mapping[str, Mapping[str, str]]

    def named(self, word: str) -> set[str]:
        """The SHA-256 that ``word`` means: itself, 8 or more of its first digits, or source:name."""
        source, colon, key = word.partition(":")
        if colon:
            found = {row["sha256"] for row in self.rows if (row["source"], row["source_key"]) == (source, key)}
            if not found:
                raise UserError(f"{word}: no image of that name in data/raw (wanted source:name, or a SHA-256)")
            return found
        digits = word.lower()
        if len(digits) < LEAST_DIGITS or set(digits) - set("0123456789abcdef") or len(digits) > 64:
            raise UserError(f"{word}: wanted a SHA-256, {LEAST_DIGITS} or more of its first digits, or source:name")
        found = {row["sha256"] for row in self.rows if row["sha256"].startswith(digits)}
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
        return {other for name in asked for other, how in self.pairs.get(name, {}).items() if how != "group"} - asked

    def same_pixels(self, names: Iterable[str]) -> list[Row]:
        """Rows of other files that show the very same pixels as ``names`` and are not withdrawn."""
        asked = set(names)
        shown = {row["pixel_sha256"] for row in self.rows if row["sha256"] in asked} - {None}
        return [row for row in self.rows
                if row["pixel_sha256"] in shown and row["sha256"] not in asked and not row["withdrawn"]]  # fmt: skip


def read(*, raw: Path, clean: Path) -> Known:
    """What is known of every image; UserError when data/raw or data/clean is not there."""
    index = _table(raw / "index.parquet", ("arrival", "sha256", "source", "source_key", "matte", "member", "withdrawn"))
    told = {row["arrival"]: row for row in _table(
        clean / "verdicts.parquet", ("arrival", "verdict", "pixel_sha256", "phash", "width", "height"))}  # fmt: skip
    blank = dict.fromkeys(("verdict", "pixel_sha256", "phash", "width", "height"))
    rows = [{**blank, **told.get(row["arrival"], {}), **row} for row in index]
    by_arrival = {row["arrival"]: row["sha256"] for row in rows}
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for pair in _table(clean / "pairs.parquet", ("a", "b", "how")):
        one, other = by_arrival.get(pair["a"]), by_arrival.get(pair["b"])
        if one and other and one != other:
            pairs[one].setdefault(other, pair["how"])
            pairs[other].setdefault(one, pair["how"])
    return Known(rows, pairs)


def stones(known: Known, names: Iterable[str], reason: str) -> list[Row]:
    """The lines for ``names``, in order of arrival."""
    asked, made = set(names), {}
    for row in known.rows:
        if row["sha256"] in asked and row["sha256"] not in made:
            told = {name: row[name] for name in ("pixel_sha256", "phash", "width", "height")}
            pairs = sorted(known.pairs.get(row["sha256"], {}).items())
            made[row["sha256"]] = {
                "sha256": row["sha256"], "source": row["source"], "source_key": row["source_key"], "reason": reason,
                **told, "pairs": [list(pair) for pair in pairs],
            }  # fmt: skip
    return list(made.values())


def append(path: Path, lines: Sequence[Row]) -> None:
    """Add ``lines`` to the record at ``path``, all or none."""
    before = path.read_text("utf-8") if path.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    files.write_text(path, before + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def names(path: Path) -> frozenset[str]:
    """SHA-256 of every image in the record at ``path``; UserError with the line that is none."""
    found = set()
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.is_file() else [], start=1):
        try:
            if line.strip():
                found.add(str(json.loads(line)["sha256"]))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}:{number}: not a withdrawn image: `git checkout` brings the file back") from None
    return frozenset(found)


def _table(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        there = set(pq.read_schema(path).names)
        rows = pq.read_table(path, columns=[name for name in columns if name in there], use_threads=False).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{path}: not there: `stillroom data report` makes it, `dvc pull` fetches it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({line}): `dvc checkout` brings it back") from None
    missing = dict.fromkeys(name for name in columns if name not in there)
    return [{**row, **missing} for row in rows]
