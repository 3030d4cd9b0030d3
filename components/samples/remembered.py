"""``data/withdrawn.jsonl``: images that were taken back by hand, and what is still known of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tombstone:
    """What stays of an image: its hashes (None when it was never decoded), size in px, and whom it was paired with."""

    sha256: str
    pixel_sha256: str | None
    phash: str | None
    width: int | None
    height: int | None
    pairs: tuple[tuple[str, str], ...]


def read(path: Path) -> dict[str, Tombstone]:
    """The tombstones by SHA-256 of the bytes, the first line of each; UserError names the line that is wrong."""
    found: dict[str, Tombstone] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            stone = _parse(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}:{number}: not a withdrawn image ({error}): `git checkout {path.name}` brings the file back"
            ) from None
        found.setdefault(stone.sha256, stone)
    return found


def _parse(said: Mapping) -> Tombstone:
    for name in ("sha256", "pixel_sha256", "phash"):
        if not (isinstance(said[name], str) and _HEX.fullmatch(said[name])) and (name == "sha256" or said[name]):
            raise ValueError(f"{name} must be 64 hexadecimal digits, not {said[name]!r}")
    pairs = tuple((str(other), str(how)) for other, how in said["pairs"])
    sizes = [None if said[name] is None else int(said[name]) for name in ("width", "height")]
    return Tombstone(said["sha256"], said["pixel_sha256"], said["phash"], *sizes, pairs)
