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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from components.base.errors import UserError
from components.collect.sources.source import File, Item, Refusal, sift

# Images are compressed already: whatever unpacks to more times its size than this is a bomb (deflate reaches 1,032).
RATIO = 200
BOMB_BYTES = 2**20  # below this many unpacked bytes (a member), or 1,024 times that (a tar.gz), no harm is done
HEADER_BYTES = 2**20  # longest extended tar header taken in
BLOCK = 512  # tar's unit
_ZIP_HEADER = 30  # bytes of the header before a member of a zip
Member = tuple[str, int, int, tuple[str, str] | None]
"""Name, size, where its bytes begin, and what is wrong with it (reason, detail)."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError)  # fmt: skip


def open_archive(file: File, *, max_bytes: int) -> Zip | Tar:
    """The zip or tar ``file``, recognised by its first bytes and not by its name."""
    with file.open() as stream:
        head = stream.read(BLOCK)
        if not head:
            raise UserError(f"{file}: empty: 0 bytes, wanted a folder, zip, tar or tar.gz")
        for opener, magic in _PACKERS:
            if head.startswith(magic):
                return Tar(file, opener, max_bytes=max_bytes)
        if _is_tar(head):  # before zip: a tar can end in a zip
            return Tar(file, None, max_bytes=max_bytes)
        if zipfile.is_zipfile(stream):
            return Zip(file)
    cut = " (it starts like a zip that was cut off)" if head.startswith(b"PK") else ""
    raise UserError(f"{file}: not an archive{cut}: wanted a folder, zip, tar or tar.gz")


def _is_tar(head: bytes) -> bool:
    """Whether ``head`` is a tar header, by its checksum; tarfile.is_tarfile would read what the header claims."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class Zip:
    """A zip archive."""

    form = "zip"

    def __init__(self, file: File) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file.open())
        except _BROKEN as error:
            raise _damaged(file, error) from None

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular member and every refusal, each sorted by key."""
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        overlapping = _overlapping(members)
        found = [(info.orig_filename, info.file_size, info, _zip_trouble(info, overlapping)) for info in members]
        return sift(found)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given; a wrong checksum is a damaged archive."""
        for item in items:
            try:
                with self._zip.open(item.location) as stream:
                    data = stream.read()
            except _BROKEN as error:
                raise _damaged(self.file, error, item.key) from None
            yield item, data


class Tar:
    """A tar archive, plain or packed; always read to its end, where the checksum of a tar.gz is."""

    form = "tar"

    def __init__(self, file: File, opener: Callable[[BinaryIO], Any] | None, *, max_bytes: int) -> None:
        self.file = file
        self._opener = opener
        self._most = max(max_bytes, HEADER_BYTES)

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular member and every refusal, each sorted by key."""
        return sift(found for found, _ in self.members())

    def members(self, wanted: Callable[[str, int], bool] | None = None) -> Iterator[tuple[Member, bytes | None]]:
        """Each member but folders, with its bytes when it is ``wanted`` (name, size); UserError when it is damaged."""
        with self._stream() as stream:
            try:
                # tarfile only reads, seeks and tells.
                with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        # tarfile would keep every member in memory; its types leave the attribute out.
                        tar.members = []  # type: ignore[attr-defined]
                        if member.isdir():
                            continue
                        trouble = _tar_trouble(member)
                        take = wanted is not None and not trouble and wanted(member.name, member.size)
                        content = tar.extractfile(member) if take else None
                        data = content.read() if content else None
                        yield (member.name, member.size, member.offset_data, trouble), data
                # tarfile takes a damaged or missing header for the end: the end is a block of zeros.
                stream.seek(tar.offset)
                if stream.read(BLOCK) != bytes(BLOCK):
                    raise tarfile.ReadError("no end marker")
                stream.drain()
            except _BROKEN as error:
                raise _damaged(self.file, error) from None

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order in which they lie in the archive, which was listed before."""
        with self._stream() as stream:
            try:
                for item in sorted(items, key=lambda item: item.location):
                    stream.seek(item.location)
                    data = stream.read(item.size)
                    if len(data) != item.size:
                        raise EOFError(f"{item.key} is cut off")
                    yield item, data
                stream.drain()
            except _BROKEN as error:
                raise _damaged(self.file, error) from None

    @contextmanager
    def _stream(self) -> Iterator[_LimitedStream]:
        with self.file.open() as raw:
            yield _LimitedStream(self.file, raw, self._opener, self._most)


class _LimitedStream:
    """A seekable stream that refuses to unpack a bomb, or to read a huge header into memory."""

    def __init__(self, file: File, raw: BinaryIO, opener: Callable[[BinaryIO], Any] | None, most: int) -> None:
        self._file = file
        self._stream = opener(raw) if opener else raw
        self._most = most
        self._limit = max(RATIO * file.size, 1024 * BOMB_BYTES)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._most + BLOCK:
            raise UserError(f"{self._file}: a header claims {size} bytes: damaged, or made to do harm")
        data = self._stream.read(size)
        if self._stream.tell() > self._limit:
            raise UserError(f"{self._file}: unpacks to more than {RATIO} times its size: a bomb, or not images")
        return data

    def drain(self) -> None:
        """Read to the end: a compressed stream has its checksum there."""
        while self.read(HEADER_BYTES):
            pass

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


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
        if one.header_offset + _ZIP_HEADER + one.compress_size > next_one.header_offset
    }


def _tar_trouble(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if member.issym() or member.islnk():
        return "link", "a link"
    if not member.isreg():
        return "device", "a pipe, socket or device, not a file"
    if member.issparse():
        return "unreadable", "a sparse file"
    return None


def _damaged(file: File, error: Exception, key: str = "") -> UserError:
    where = f"{file} ({key})" if key else f"{file}"
    return UserError(f"{where}: damaged or cut off ({error or type(error).__name__}): fetch the archive again")


_PACKERS = (
    (lambda file: gzip.GzipFile(fileobj=file), b"\x1f\x8b"),
    (bz2.BZ2File, b"BZh"),
    (lzma.LZMAFile, b"\xfd7zXZ\x00"),
)
