"""``data/withdrawn.jsonl``: the images that were withdrawn by hand, one a line, without their bytes.

    {"sha256": ..., "source": ..., "source_key": ..., "reason": ..., "pixel_sha256": ... | null, "phash": ... | null,
     "width": px | null, "height": px | null, "pairs": [[SHA-256 of the other, how], ...]}

Stage `collect` removes the bytes and keeps the place; `clean` keeps the groups together by ``pairs``, so that no
other image moves.  Lines are only added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.samples import records


@dataclass(frozen=True)
class Tombstone:
    """What stays of an image: hashes (None when it was never decoded), size in px, and its pairs (SHA-256, how)."""

    sha256: str
    pixel_sha256: str | None
    phash: str | None
    width: int | None
    height: int | None
    pairs: tuple[tuple[str, str], ...]


def read(path: Path) -> dict[str, Tombstone]:
    """The tombstones by SHA-256, the first line of each (none without the file); UserError names a bad line."""
    advice = f"mend the line; `git checkout {path}` brings back what was committed, and loses later withdrawals"
    found: dict[str, Tombstone] = {}
    for stone in records.read(path, _parse, wanted="a withdrawn image", advice=advice):
        found.setdefault(stone.sha256, stone)
    return found


def names(path: Path) -> frozenset[str]:
    """The SHA-256 of every image in the record at ``path``; UserError as `read`."""
    return frozenset(read(path))


def _parse(line: Mapping[str, Any]) -> Tombstone:
    hashes = [records.digits(line, name) if line[name] or name == "sha256" else None
              for name in ("sha256", "pixel_sha256", "phash")]  # fmt: skip
    assert hashes[0] is not None
    pairs = tuple((str(other), str(method)) for other, method in line["pairs"])
    width, height = (None if line[name] is None else int(line[name]) for name in ("width", "height"))
    return Tombstone(hashes[0], hashes[1], hashes[2], width, height, pairs)
