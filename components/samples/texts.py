"""The captions of a pack's rows, beside the pack: written by stage ``encode``, read where samples are told of.

header.json      {"format": 1, "rows", "captions", "keys"}; ``captions`` is null where no text was asked for, and
                 there are no other files then.  ``keys`` is the SHA-256 of the pack's keys.sha256
captions.jsonl   each distinct caption once, a JSON string a line, in order of the first row that has it
starts.i32       N + 1 little-endian int32: where each row's captions begin in ``numbers.i32``, and where they end
numbers.i32      numbers of captions (lines of captions.jsonl), one row after the other
pooled.f16       a vector of each caption, little-endian half floats
tokens.f16       where tokens were asked for: the states of each caption's tokens, ``encoder.tokens`` of them with those
                 of the padding behind it, and at the end of the file those of the empty caption
lengths.i32      of how many tokens each of those is, before the padding
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

MOST_TOKENS = 512
"""Of a caption, the most that any encoder is given."""

POOLED, TOKENS, LENGTHS, ENCODER = "pooled.f16", "tokens.f16", "lengths.i32", "encoder"
_HEADER, _CAPTIONS, _STARTS, _NUMBERS = "header.json", "captions.jsonl", "starts.i32", "numbers.i32"
_DECIDING = (_HEADER, _STARTS, _NUMBERS, POOLED, TOKENS, LENGTHS)


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
    tokens: int = 0
    """Whose states are there beside the vector, those of the padding among them; 0: none are."""
    nothing: int = 0
    """Tokens that the empty caption has, such as those for beginning and end; 0 without ``tokens``."""

    def __post_init__(self) -> None:
        if self.name not in ("minilm", "folder") or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"encoder {self.name!r:.40} with SHA-256 {self.sha256!r:.80} is none")
        if not (type(self.width) is type(self.longest) is int and 0 < self.width <= WIDEST and self.longest > 0):
            raise ValueError(f"width {self.width!r:.40}, longest {self.longest!r:.40} of the encoder: not sizes")
        if not (type(self.tokens) is type(self.nothing) is int and self.nothing <= self.tokens <= MOST_TOKENS):
            raise ValueError(f"{self.tokens!r:.40} tokens, {self.nothing!r:.40} of nothing: not sizes")
        if self.tokens < 0 or (self.nothing > 0) != (self.tokens > 0):
            raise ValueError(f"{self.tokens} tokens, {self.nothing} of nothing: not sizes")

    def plain(self) -> dict[str, Any]:
        """As JSON has it: without what there is only with tokens."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_TOKENS or self.tokens}


_OF_TOKENS = ("tokens", "nothing")


def encoder(data: Any) -> Encoder:
    """The encoder of :meth:`Encoder.plain`; ValueError when it makes no sense."""
    names = [name for name in Encoder.__dataclass_fields__ if name not in _OF_TOKENS]
    if not isinstance(data, dict) or data.keys() not in ({*names}, {*names, *_OF_TOKENS}):
        raise ValueError(f"an encoder has {', '.join(names)}, and with tokens {' and '.join(_OF_TOKENS)}")
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
                   "encoder": texts.encoder and texts.encoder.plain()}  # fmt: skip
    (folder / _HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n", "utf-8")


def deciding(folder: Path) -> list[Path]:
    """The files in ``folder`` that a training depends on."""
    return [folder / name for name in _DECIDING if (folder / name).is_file()]


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
    if made.tokens:
        _check_tokens(folder, made, len(captions) + 1)
    return Texts(captions=captions, starts=starts, numbers=numbers, encoder=made)


def _check_tokens(folder: Path, made: Encoder, count: int) -> None:
    if (folder / TOKENS).stat().st_size != 2 * made.width * made.tokens * count:
        raise ValueError(f"{TOKENS} does not hold {count} times {made.tokens} tokens of {made.width} numbers")
    lengths = pack.read_int32(folder / LENGTHS)
    if len(lengths) != count or not 0 < min(lengths) <= max(lengths) <= made.tokens or lengths[-1] != made.nothing:
        raise ValueError(f"{LENGTHS} does not give {count} captions, the last of them empty, their tokens")
