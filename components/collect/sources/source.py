"""What a source is: named files, read and never extracted, and what was refused.

Everything in a source may be hostile.  A name that could leave its folder, a link, a device or a name that stands
twice becomes a ``Refusal``, which is listed; it is never opened.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, NamedTuple, Protocol

from components.collect.memory import Memory

IMAGE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".gif", ".bmp",
                  ".heic", ".heif", ".hif", ".jxl", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm")  # fmt: skip
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
# Text files that people put beside images: counted, not refused.
PAPERS = re.compile(r"(licen[cs]e|copying|readme|notice|authors|attribution|changelog)", re.IGNORECASE)
PAPER_SUFFIXES = ("", ".txt", ".md", ".rst", ".html")
# What programs leave beside people's files: previews, caches, bins, the other half of a macOS file.
LITTER_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
LITTER_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
LONGEST_NAME = 4096  # characters; PATH_MAX of Linux
# Most names: no part is empty or begins with a dot, so no other check is needed.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_-][A-Za-z0-9_. -]*)*")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Item(NamedTuple):
    """A file of a source: its name from the source's top, its size in bytes, and its SHA-256 if known."""

    key: str
    size: int
    location: Any
    """Where it lies, in the terms of whoever listed it."""
    sha256: str | None = None


@dataclass(frozen=True)
class Refusal:
    """What was not imported, and why: ``reason`` is one word, ``detail`` one sentence."""

    key: str
    reason: str
    detail: str


class Annotation(NamedTuple):
    """What a source says of an image: caption, label and group, None for none."""

    text: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Survey:
    """The images of a part in order of their keys, the annotation of each, and the rest; ``ignored`` counts papers."""

    items: list[Item]
    annotations: list[Annotation]
    refusals: list[Refusal]
    ignored: int
    texts: frozenset[str] = frozenset()
    """Of samples in shards: the extensions of the texts that were asked for and are there."""


class Print(NamedTuple):
    """A fingerprint: bytes, number of images, and a SHA-256 that changes when what would be read changes."""

    bytes: int
    files: int
    sha256: str
    refused: dict[str, int] | None = None
    """How often which reason was given, where that is known without a survey."""


class File(Protocol):
    """A file of this machine or of a store; ``str`` gives its whole address, for messages."""

    @property
    def name(self) -> str:
        """The last part of its address."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def state(self) -> Sequence[object] | None:
        """Changes when the file does; None when the store does not say."""

    @property
    def mark(self) -> str | None:
        """What the store says of the content (an etag); None when one has to read it."""

    def open(self) -> BufferedReader:
        """A seekable stream of its bytes."""

    def read_bytes(self) -> bytes:
        """All of it."""


class Part(Protocol):
    """What is fingerprinted and read as a whole: a source's one folder or archive, or one of its shards."""

    @property
    def form(self) -> str:
        """What it is: folder, zip, tar, urls, parquet or webdataset."""

    def fingerprint(self, memory: Memory) -> Print:
        """What it holds now, as short as can be."""

    def survey(self, memory: Memory) -> Survey:
        """Its images, unread."""

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes | Refusal]]:
        """The bytes of ``items``, each once, in any order, or why there are none."""

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Keep the hash of ``item`` if that saves reading it again."""


def safe_key(name: str) -> tuple[str, str]:
    """``name`` without empty and ``.`` parts, and what is unsafe about it ('' when nothing is).

    Letters with marks are one character each (NFC): macOS takes them apart (NFD), and what names them may not.
    Control characters are written out, as ``\\x07``: they are no reason to leave a picture out.
    """
    if len(name) <= LONGEST_NAME and _PLAIN.fullmatch(name):
        return name, ""
    name = unicodedata.normalize("NFC", name)
    parts = name.replace("\\", "/").split("/")
    key = "/".join(part for part in name.split("/") if part not in ("", "."))
    key = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", key)
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return key, "an absolute name"
    if ".." in parts:
        return key, "a name that leaves its folder"
    if printable(name) != name:
        return key, "a name that is not UTF-8 text"
    if not key or len(key) > LONGEST_NAME:
        return key, f"a name that is empty or longer than {LONGEST_NAME} characters"
    return key, ""


def printable(name: str) -> str:
    """``name`` with what is not Unicode text written as escapes, so that any table can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def suffix(key: str) -> str:
    """The last suffix of a name in lower case with its dot; '' for none, and for a name that begins with it."""
    name = key.rpartition("/")[2]
    at = name.rfind(".")
    return name[at:].lower() if 0 < at < len(name) - 1 else ""


def litter(key: str) -> str:
    """The file or the outermost folder in ``key`` that a program left there and hid ('' for none), by its name."""
    parts = key.split("/")
    for at, part in enumerate(parts):
        names = LITTER_FOLDERS if at + 1 < len(parts) else LITTER_FILES
        if part.startswith(".") or part.lower() in names:
            return "/".join(parts[: at + 1])
    return ""


def role(key: str) -> str:
    """What a file's name says it is: ``image``, ``metadata``, ``paper`` (licence, readme) or ``other``."""
    name = key.rpartition("/")[2]
    end = suffix(name)
    if end in IMAGE_SUFFIXES:
        return "image"
    if name.lower() in METADATA_NAMES:
        return "metadata"
    return "paper" if end in PAPER_SUFFIXES and PAPERS.match(name) else "other"


def sift(found: Iterable[tuple[str, int, Any, tuple[str, str] | None]]) -> tuple[list[Item], list[Refusal]]:
    """(name, size, location, trouble) of every member into items and refusals; the first of a name counts.

    Of what a program left a folder is one refusal, whatever is in it.
    """
    items: dict[str, Item] = {}
    refusals = []
    left: set[str] = set()
    for name, size, location, trouble in found:
        key, unsafe = safe_key(name)
        if unsafe:
            refusals.append(Refusal(printable(name), "unsafe_name", unsafe))
        elif hidden := litter(key):
            if hidden not in left:
                what = "a file" if hidden == key else "a folder"
                refusals.append(Refusal(hidden, "litter", f"{what} that a program left: hidden, or called as such are"))
            left.add(hidden)
        elif trouble:
            refusals.append(Refusal(key, *trouble))
        elif key in items:
            refusals.append(Refusal(key, "duplicate_name", "the source holds this name more than once"))
        else:
            items[key] = Item(key, size, location)
    return sorted(items.values(), key=lambda item: item.key), sorted(refusals, key=lambda each: each.key)


def why(error: BaseException) -> str:
    """What ``error`` says, in one line of at most 200 characters."""
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return message.splitlines()[0][:200]
