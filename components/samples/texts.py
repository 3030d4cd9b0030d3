"""The captions of a pack's rows, beside the pack: written by stage ``encode``, read where samples are told of.

header.json      {"format": 1, "rows", "captions", "keys"}; ``captions`` is null where no text was asked for, and
                 there are no other files then.  ``keys`` is the SHA-256 of the pack's keys.sha256
captions.jsonl   each distinct caption once, a JSON string a line, in order of the first row that has it
starts.i32       N + 1 little-endian int32: where each row's captions begin in ``numbers.i32``, and where they end
numbers.i32      numbers of captions (lines of captions.jsonl), one row after the other
"""

from __future__ import annotations

import array
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError, brief
from components.samples import pack
from components.samples import spec as specs

FORMAT = 1
WIDEST = 16_384
"""Numbers in a vector, at most."""

POOLED, ENCODER = "pooled.f16", "encoder"
_HEADER, _CAPTIONS, _STARTS, _NUMBERS = "header.json", "captions.jsonl", "starts.i32", "numbers.i32"
DECIDING = (_HEADER, _STARTS, _NUMBERS, POOLED)
"""What a training depends on."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What made vectors of the captions."""

    name: str
    """minilm, or folder."""
    sha256: str
    """Of all that decides what it says (:func:`components.embed.sentences.identity`)."""
    width: int
    longest: int
    """Tokens of a caption, at most: it does not see what comes after."""

    def __post_init__(self) -> None:
        if self.name not in ("minilm", "folder") or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"encoder {self.name!r:.40} with SHA-256 {self.sha256!r:.80} is none")
        if not (type(self.width) is type(self.longest) is int and 0 < self.width <= WIDEST and self.longest > 0):
            raise ValueError(f"width {self.width!r:.40}, longest {self.longest!r:.40} of the encoder: not sizes")


def encoder(data: Any) -> Encoder:
    """The encoder that ``dataclasses.asdict`` made plain; ValueError when it makes no sense."""
    if not isinstance(data, dict) or data.keys() != Encoder.__dataclass_fields__.keys():
        raise ValueError(f"an encoder has {', '.join(Encoder.__dataclass_fields__)}")
    if not all(isinstance(data[name], str) for name in ("name", "sha256")):
        raise ValueError("name and sha256 of an encoder are text")
    return Encoder(**data)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What the rows of a pack are told with."""

    captions: tuple[str, ...]
    """Distinct ones."""
    encoder: Encoder | None = None
    """Of the vectors beside them; None before there are any."""
    starts: array.array[int]
    numbers: array.array[int]
    """Of captions, row after row: those of row i from ``starts[i]`` up to ``starts[i + 1]``."""

    @property
    def rows(self) -> int:
        """Of the pack."""
        return len(self.starts) - 1

    def of(self, row: int) -> list[str]:
        """The captions of one row, in their order."""
        return [self.captions[number] for number in self.numbers[self.starts[row] : self.starts[row + 1]]]


def collected(rows: Sequence[Sequence[str]]) -> Texts:
    """The captions of each of ``rows``, numbered."""
    known: dict[str, int] = {}
    numbers = array.array("i", (known.setdefault(each, len(known)) for row in rows for each in row))
    starts = array.array("i", itertools.accumulate(map(len, rows), initial=0))
    return Texts(captions=tuple(known), starts=starts, numbers=numbers)


def write(folder: Path, texts: Texts | None, pixels: Path) -> None:
    """Write ``texts`` of the pack ``pixels`` into ``folder``; None: that no text was asked for."""
    header: dict[str, Any] = {"format": FORMAT, "captions": None}
    if texts is not None:
        lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in texts.captions)
        (folder / _CAPTIONS).write_text(lines, "utf-8")
        pack.write_int32(folder / _STARTS, texts.starts)
        pack.write_int32(folder / _NUMBERS, texts.numbers)
        header |= {"rows": texts.rows, "captions": len(texts.captions), "keys": files.sha256(pixels / pack.KEYS),
                   "encoder": texts.encoder and asdict(texts.encoder)}  # fmt: skip
    (folder / _HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n", "utf-8")


def read(folder: Path, pixels: Path) -> Texts | None:
    """The captions of the pack ``pixels``, None where no text was asked for; UserError when anything is wrong."""
    path = folder / _HEADER
    try:
        raw = json.loads(path.read_text("utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"it holds {type(raw).__name__}, wanted an object")
        specs.known_format(raw.get("format"), FORMAT)
        return None if raw.get("captions") is None else _read(folder, raw, pixels)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not what stage 'encode' writes ({brief(error)}): run it again") from None


def _read(folder: Path, raw: dict[str, Any], pixels: Path) -> Texts:
    if raw.get("keys") != files.sha256(pixels / pack.KEYS):
        raise ValueError(f"of another pack than {pixels}")
    captions = tuple(map(json.loads, (folder / _CAPTIONS).read_text("utf-8").split("\n")[:-1]))
    starts, numbers = pack.read_int32(folder / _STARTS), pack.read_int32(folder / _NUMBERS)
    if len(captions) != raw["captions"] or not all(isinstance(each, str) for each in captions):
        raise ValueError(f"{_CAPTIONS} does not hold {raw['captions']!r:.40} strings")
    ordered = all(one <= two for one, two in itertools.pairwise(starts))
    if len(starts) != raw.get("rows", -1) + 1 or not ordered or (starts[0], starts[-1]) != (0, len(numbers)):
        raise ValueError(f"{_STARTS} does not give each of {raw.get('rows')!r:.40} rows its captions")
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(captions):
        raise ValueError(f"{_NUMBERS} names a caption that is not there")
    made = encoder(raw.get("encoder"))
    if (folder / POOLED).stat().st_size != 2 * made.width * len(captions):
        raise ValueError(f"{POOLED} does not hold {len(captions)} vectors of {made.width} numbers")
    return Texts(captions=captions, starts=starts, numbers=numbers, encoder=made)
