"""Where images come from: a folder, a zip or a tar, read as named items and never extracted.

Whatever a source holds is hostile until shown otherwise.  A name that could leave its folder, a link, a
device, an item said twice becomes a ``Refusal``, which is listed; it is never opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from components.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
# Text that people put beside images and that is no image gone wrong: counted, not refused.
PAPERS = re.compile(r"(licen[cs]e|copying|readme|notice|authors|attribution|changelog)", re.IGNORECASE)
PAPER_SUFFIXES = ("", ".txt", ".md", ".rst", ".html")
LONGEST_NAME = 4096  # characters; PATH_MAX of Linux


@dataclass(frozen=True)
class Item:
    """A regular file of a source: its name from the source's top, its size in bytes, where it lies."""

    key: str
    size: int
    place: object


@dataclass(frozen=True)
class Refusal:
    """What was not taken in, and why: ``reason`` is one word, ``detail`` one sentence."""

    key: str
    reason: str
    detail: str


class Source(Protocol):
    """A folder or an archive, open for reading."""

    kind: str
    path: Path

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular file and every refusal, each sorted by key."""

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items``, each once, in the order that suits the source."""


def locate(location: str, root: Path, *, where: str = "collect.sources") -> Path:
    """The path of ``location``, ``root`` being where relative ones start; UserError when it is not there."""
    path = root / location
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{location}: not there: set {where} in params.yaml to a folder or archive") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{location}: cannot be reached ({_why(error)})") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{location}: neither a folder nor a file ({where} in params.yaml)")
    if not os.access(path, os.R_OK):
        raise UserError(f"{location}: permission denied: give this user the right to read it")
    return path


def open_source(path: Path, *, max_bytes: int) -> Source:
    """The source at ``path``; UserError when it is no folder, zip, tar or tar.gz that can be read."""
    from components.archives import open_archive

    return Folder(path) if path.is_dir() else open_archive(path, max_bytes=max_bytes)


class Folder:
    """A folder and all below it; links may point at files inside it, at nothing else."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular file and every refusal, each sorted by key."""
        items, refusals = [], []
        for folder, name, is_link in self._walk():
            path = Path(folder, name)
            shown = str(path.relative_to(self.path))
            key, unsafe = safe_key(shown)
            if unsafe:
                refusals.append(Refusal(printable(shown), "unsafe_name", unsafe))
                continue
            found = self._inspect(path, key, is_link)
            (items if isinstance(found, Item) else refusals).append(found)
        return sorted(items, key=lambda item: item.key), sorted(refusals, key=lambda refusal: refusal.key)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given."""
        for item in items:
            with self.open(item) as stream:
                yield item, stream.read()

    def open(self, item: Item):
        """A binary stream of ``item``; it was a regular file when listed and must still be one."""
        try:
            # NOFOLLOW and NONBLOCK: between listing and opening, a file can turn into a link or a FIFO.
            handle = os.open(item.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{self.path / item.key}: cannot be read ({_why(error)})") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise UserError(f"{self.path / item.key}: changed while it was read: run the same command again")
        return os.fdopen(handle, "rb")

    def _walk(self) -> Iterator[tuple[str, str, bool]]:
        def fail(error: OSError) -> None:
            raise UserError(f"{error.filename}: cannot be listed ({_why(error)})")

        for folder, folders, names in os.walk(self.path, onerror=fail):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in names + links:
                yield folder, name, Path(folder, name).is_symlink()

    def _inspect(self, path: Path, key: str, is_link: bool) -> Item | Refusal:
        if is_link:
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError):
                return Refusal(key, "link", "a link that points at nothing")
            if not target.is_relative_to(self._real):
                return Refusal(key, "link", "a link that leaves the source")
            path = target
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            return Refusal(key, "link", "a link to a folder")
        if not stat.S_ISREG(found.st_mode):
            return Refusal(key, "device", "a pipe, socket or device, not a file")
        return Item(key, found.st_size, path)


def safe_key(name: str) -> tuple[str, str]:
    """``name`` without empty and ``.`` parts, and what is unsafe about it ('' when nothing is)."""
    parts = name.replace("\\", "/").split("/")
    key = "/".join(part for part in name.split("/") if part not in ("", "."))
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return key, "an absolute name"
    if ".." in parts:
        return key, "a name that leaves its folder"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return key, "a name with control characters"
    if printable(name) != name:
        return key, "a name that is not UTF-8 text"
    if not key or len(key) > LONGEST_NAME:
        return key, f"a name that is empty or longer than {LONGEST_NAME} characters"
    return key, ""


def printable(name: str) -> str:
    """``name`` with what is not Unicode text written as escapes, so that any table can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def role(key: str) -> str:
    """What a file's name says it is: ``image``, ``metadata``, ``paper`` (licence, readme) or ``other``."""
    name = PurePosixPath(key).name
    if name.startswith("._") or "__MACOSX" in key.split("/"):
        return "other"  # macOS resource forks carry an image's suffix and are none
    if name.lower() in METADATA_NAMES:
        return "metadata"
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "paper" if suffix in PAPER_SUFFIXES and PAPERS.match(name) else "other"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
