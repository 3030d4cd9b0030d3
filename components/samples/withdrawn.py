"""``data/withdrawn.jsonl``: the images that were withdrawn by hand, one a line, without their bytes.

    {"sha256": ..., "source": ..., "source_key": ..., "reason": ..., "pixel_sha256": ... | null, "phash": ... | null,
     "width": px | null, "height": px | null, "pairs": [[SHA-256 of the other, how], ...]}

Stage `collect` removes the bytes and keeps the place; `clean` keeps the groups together by ``pairs``, so that no
other image moves.  Lines are only added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import files, plain
from components.base.errors import UserError

_HEX = re.compile(r"[0-9a-f]{64}")


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
    found: dict[str, Tombstone] = {}
    text = path.read_text("utf-8") if path.is_file() else ""
    if at := plain.conflicted(text):
        raise UserError(f"{path}:{at}: {plain.CONFLICT}")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            stone = _parse(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{path}:{number}: not a withdrawn image ({what}): mend the line; `git checkout {path}` brings back "
                "what was committed, and loses later withdrawals"
            ) from None
        found.setdefault(stone.sha256, stone)
    return found


def names(path: Path) -> frozenset[str]:
    """The SHA-256 of every image in the record at ``path``; UserError as `read`."""
    return frozenset(read(path))


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add ``lines`` to the record at ``path``, all or none."""
    before = path.read_text("utf-8") if path.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    files.write_text(path, before + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _parse(line: Any) -> Tombstone:
    if not isinstance(line, Mapping):
        raise TypeError(f"{type(line).__name__}, wanted an object")
    for name in ("sha256", "pixel_sha256", "phash"):
        if not (isinstance(line[name], str) and _HEX.fullmatch(line[name])) and (name == "sha256" or line[name]):
            raise ValueError(f"{name} must be 64 hexadecimal digits, not {line[name]!r}")
    pairs = tuple((str(other), str(method)) for other, method in line["pairs"])
    width, height = (None if line[name] is None else int(line[name]) for name in ("width", "height"))
    return Tombstone(line["sha256"], line["pixel_sha256"], line["phash"], width, height, pairs)
