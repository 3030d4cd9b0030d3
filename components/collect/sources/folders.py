"""Files and folders of this machine: only regular files are opened, and no link that leaves the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from components.base.errors import UserError
from components.collect.sources.source import Item, Refusal, litter, role, safe_key, sift, why


class Location(NamedTuple):
    """Where a file of a folder lies, and what it was when it was listed."""

    path: str
    state: tuple[int, int, int]


class LocalFile:
    """A file of this machine."""

    mark = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        found = path.stat()
        self.size = found.st_size
        self.state = _state(found)

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> BufferedReader:
        """A stream of its bytes."""
        return _open(str(self.path), follow=True)

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open() as stream:
            return stream.read()


class Folder:
    """A folder and all below it; links may point at files inside it, at nothing else."""

    form = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular file and every refusal, each sorted by key."""
        found = sorted(self._walk(), key=lambda each: each[1])
        return sift((shown, *self._inspect(entry)) for entry, shown in found)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given."""
        for item in items:
            with self.open(item) as stream:
                yield item, stream.read()

    def open(self, item: Item) -> BufferedReader:
        """A binary stream of ``item``; it was a regular file when listed and must still be one."""
        return _open(item.location.path, follow=False)

    def file(self, item: Item) -> LocalFile:
        """``item`` as a file."""
        return LocalFile(Path(item.location.path))

    def identity(self, item: Item) -> tuple[str, tuple[int, int, int], None]:
        """What memory knows ``item`` by, its state, and the store's mark (none here)."""
        return item.location.path, item.location.state, None

    def _walk(self) -> Iterator[tuple[os.DirEntry[str], str]]:
        waiting = [(str(self.path), "")]
        while waiting:
            folder, prefix = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, f"{prefix}{entry.name}/"))
                        else:
                            yield entry, prefix + entry.name
            except OSError as error:
                raise UserError(f"{folder}: cannot be listed ({why(error)})") from None

    def _inspect(self, entry: os.DirEntry[str]) -> tuple[int, Location, tuple[str, str] | None]:
        """Size, place, and what is wrong with it (reason, detail)."""
        path, found, trouble = entry.path, entry.stat(follow_symlinks=False), None
        if stat.S_ISLNK(found.st_mode):
            try:
                target = Path(path).resolve(strict=True)
                path, found = str(target), target.lstat()
            except (OSError, RuntimeError):
                trouble = "link", "a link that points at nothing"
            else:
                if not target.is_relative_to(self._real):
                    trouble = "link", "a link that leaves the source"
                elif _is_picture(safe_key(target.relative_to(self._real).as_posix())[0]):
                    trouble = "link", "a link to a picture that is in the source itself"
        if trouble is None and stat.S_ISDIR(found.st_mode):
            trouble = "link", "a link to a folder"
        elif trouble is None and not stat.S_ISREG(found.st_mode):
            trouble = "device", "a pipe, socket or device, not a file"
        return found.st_size, Location(path, _state(found)), trouble


def _is_picture(key: str) -> bool:
    """Whether a file of that name is taken in by itself."""
    return role(key) == "image" and not litter(key)


def locate(location: str, root: Path, *, where: str) -> LocalFile | Folder:
    """What lies at ``location``, ``root`` being where relative ones start; ``where`` names the parameter."""
    path = root / location
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{location}: not there: set {where} in params.yaml to a folder or archive") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{location}: cannot be reached ({why(error)})") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{location}: neither a folder nor a file ({where} in params.yaml)")
    if not os.access(path, os.R_OK):
        raise UserError(f"{location}: permission denied: give this user the right to read it")
    return Folder(path) if stat.S_ISDIR(mode) else LocalFile(path)


def _open(path: str, *, follow: bool) -> BufferedReader:
    # NOFOLLOW and NONBLOCK: between listing and opening, a file can turn into a link or a FIFO.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({why(error)})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path}: changed while it was read: run the same command again")
    return os.fdopen(handle, "rb")


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino
