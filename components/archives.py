"""Zip and tar archives as sources: read member by member, never extracted."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from components.errors import UserError
from components.sources import Item, Refusal, Source, printable, safe_key

# Packed images do not pack again: what shrinks more than this is a bomb (deflate reaches 1,032).
RATIO = 200
BOMB_BYTES = 2**20  # below this many unpacked bytes (a member), or 1,024 times that (a tar.gz), no harm is done
HEADER_BYTES = 2**20  # longest extended tar header taken in
BLOCK = 512  # tar's unit
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError)  # fmt: skip


def open_archive(path: Path, *, max_bytes: int) -> Source:
    """The zip or tar at ``path``, told by its first bytes and not by its name."""
    with path.open("rb") as stream:
        head = stream.read(BLOCK)
    if not head:
        raise UserError(f"{path}: empty: 0 bytes, wanted a folder, zip, tar or tar.gz")
    for opener, magic in _PACKERS:
        if head.startswith(magic):
            return Tar(path, opener, max_bytes=max_bytes)
    if _is_tar(head):  # before zip: a tar can end in a zip
        return Tar(path, None, max_bytes=max_bytes)
    if zipfile.is_zipfile(path):
        return Zip(path)
    cut = " (it starts like a zip that was cut off)" if head.startswith(b"PK") else ""
    raise UserError(f"{path}: not an archive{cut}: wanted a folder, zip, tar or tar.gz")


def _is_tar(head: bytes) -> bool:
    """Whether ``head`` is a tar header, by its checksum; tarfile.is_tarfile would read what the header claims."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class Zip:
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise _damaged(path, error) from None

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular member and every refusal, each sorted by key."""
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        overlapping = _overlapping(members)
        found = [(info.orig_filename, info.file_size, info, _zip_trouble(info, overlapping)) for info in members]
        return _sift(found)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given; a wrong checksum is a damaged archive."""
        for item in items:
            try:
                with self._zip.open(item.place) as stream:
                    data = stream.read()
            except _BROKEN as error:
                raise _damaged(self.path, error, item.key) from None
            yield item, data


class Tar:
    """A tar archive, plain or packed; always read to its end, where the checksum of a tar.gz is."""

    kind = "tar"

    def __init__(self, path: Path, opener, *, max_bytes: int) -> None:
        self.path = path
        self._opener = opener
        self._max_bytes = max_bytes

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular member and every refusal, each sorted by key."""
        found = []
        for member, _ in self._members():
            if not member.isdir():
                # A tar has no index: a member is found again by where it starts.
                found.append((member.name, member.size, member.offset, _tar_trouble(member)))
        return _sift(found)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order in which they lie in the archive."""
        wanted = {item.place: item for item in items}
        for member, tar in self._members():
            item = wanted.get(member.offset)
            if item is not None:
                try:
                    data = tar.extractfile(member).read()
                except _BROKEN as error:
                    raise _damaged(self.path, error, item.key) from None
                yield item, data

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        """Each member while the archive stands at it; UserError when the archive is cut off or damaged."""
        with self.path.open("rb") as file:
            stream = _Careful(self.path, file, self._opener, max(self._max_bytes, HEADER_BYTES))
            try:
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        tar.members = []  # tarfile remembers all it saw; nothing here looks back
                        yield member, tar
                # tarfile takes a damaged or missing header for the end: the end is a block of zeros.
                stream.seek(tar.offset)
                if stream.read(BLOCK) != bytes(BLOCK):
                    raise tarfile.ReadError("no end marker")
                while stream.read(HEADER_BYTES):
                    pass
            except _BROKEN as error:
                raise _damaged(self.path, error) from None


class _Careful:
    """A seekable stream that refuses to unpack a bomb or to read a monstrous header into memory."""

    def __init__(self, path: Path, file: BinaryIO, opener, most: int) -> None:
        self._path = path
        self._stream = opener(file) if opener else file
        self._most = most
        self._limit = max(RATIO * path.stat().st_size, 1024 * BOMB_BYTES)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._most + BLOCK:
            raise UserError(f"{self._path}: asks for {size} bytes at once: damaged, or made to do harm")
        data = self._stream.read(size)
        if self._stream.tell() > self._limit:
            raise UserError(f"{self._path}: unpacks to more than {RATIO} times its size: a bomb, or not images")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _sift(found: list[tuple[str, int, object, tuple[str, str] | None]]) -> tuple[list[Item], list[Refusal]]:
    """(name, size, place, trouble) of every member into items and refusals; the first of a name counts."""
    items: dict[str, Item] = {}
    refusals = []
    for name, size, place, trouble in found:
        key, unsafe = safe_key(name)
        if unsafe:
            refusals.append(Refusal(printable(name), "unsafe_name", unsafe))
        elif trouble:
            refusals.append(Refusal(key, *trouble))
        elif key in items:
            refusals.append(Refusal(key, "duplicate_name", "the archive holds this name more than once"))
        else:
            items[key] = Item(key, size, place)
    return sorted(items.values(), key=lambda item: item.key), sorted(refusals, key=lambda each: each.key)


def _zip_trouble(info: zipfile.ZipInfo, overlapping: set[int]) -> tuple[str, str] | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link", "a link"
    if kind not in (0, stat.S_IFREG):
        return "device", "a pipe, socket or device, not a file"
    if info.flag_bits & 1:
        return "encrypted", "encrypted: pack the images without a password"
    if info.compress_type not in _METHODS:
        return "unreadable", f"packed with method {info.compress_type}, which is not one of zip's common four"
    if info.header_offset in overlapping:
        return "overlap", "shares its bytes with another member"
    if info.file_size > max(BOMB_BYTES, RATIO * info.compress_size):
        return "over_compressed", f"{info.compress_size} bytes claim to unpack to {info.file_size}"
    return None


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """The offsets of members that run into the next one."""
    ordered = sorted(members, key=lambda info: info.header_offset)
    return {
        one.header_offset
        for one, next_one in itertools.pairwise(ordered)
        if one.header_offset + zipfile.sizeFileHeader + one.compress_size > next_one.header_offset
    }


def _tar_trouble(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if member.issym() or member.islnk():
        return "link", "a link"
    if not member.isreg():
        return "device", "a pipe, socket or device, not a file"
    if member.issparse():
        return "unreadable", "a sparse file"
    return None


def _damaged(path: Path, error: Exception, key: str = "") -> UserError:
    where = f"{path} ({key})" if key else f"{path}"
    return UserError(f"{where}: damaged or cut off ({error or type(error).__name__}): fetch the archive again")


_PACKERS = (
    (lambda file: gzip.GzipFile(fileobj=file), b"\x1f\x8b"),
    (bz2.BZ2File, b"BZh"),
    (lzma.LZMAFile, b"\xfd7zXZ\x00"),
)
