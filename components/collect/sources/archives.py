"""Zip and tar archives as sources: read member by member, never extracted."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from components.base.errors import UserError
from components.collect.sources.copies import Copied
from components.collect.sources.folders import LocalFile
from components.collect.sources.source import File, Item, Refusal, sift
from components.collect.sources.zips import BOMB_BYTES, BROKEN, RATIO, Zip, damaged

HEADER_BYTES = 2**20  # longest extended tar header taken in
BLOCK = 512  # tar's unit
WANTED = "zip, tar, tar.gz, tar.bz2, tar.xz or tar.zst"
Member = tuple[str, int, int, tuple[str, str] | None]
"""Name, size, where its bytes begin, and what is wrong with it (reason, detail)."""
_BROKEN = (tarfile.TarError, *BROKEN)


def open_archive(file: File, *, max_bytes: int, copies: Path | None) -> Zip | Tar:
    """The zip or tar ``file``, recognised by its first bytes and not by its name.

    A tar in a store is copied to the folder ``copies`` when it is read first: it has no list of its members, so that
    each listing reads all of it.
    """
    with file.open() as stream:
        head = stream.read(BLOCK)
        if not head:
            raise UserError(f"{file}: empty: 0 bytes, wanted a folder, {WANTED}")
        for opener, magic in _PACKERS:
            if head.startswith(magic):
                return Tar(_near(file, copies), opener, max_bytes=max_bytes)
        if _is_tar(head):  # before zip: a tar can end in a zip
            return Tar(_near(file, copies), None, max_bytes=max_bytes)
        if zipfile.is_zipfile(stream):
            return Zip(file)
    cut = " (it starts like a zip that was cut off)" if head.startswith(b"PK") else ""
    raise UserError(f"{file}: not an archive{cut}: wanted a folder, {WANTED}")


def _near(file: File, copies: Path | None) -> File:
    return file if copies is None or isinstance(file, LocalFile) else Copied(file, copies)


def _is_tar(head: bytes) -> bool:
    """Whether ``head`` is a tar header, by its checksum, or the end of a tar with nothing in it.

    tarfile.is_tarfile would read what the header claims.
    """
    if head == bytes(BLOCK):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


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
                if stream.last != bytes(BLOCK):
                    raise tarfile.ReadError("no end marker")
                stream.drain()
            except _BROKEN as error:
                raise damaged(self.file, error) from None

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
                raise damaged(self.file, error) from None

    @contextmanager
    def _stream(self) -> Iterator[_LimitedStream]:
        with self.file.open() as raw:
            yield _LimitedStream(self.file, raw, self._opener, self._most)


class _LimitedStream:
    """A seekable stream that refuses to unpack a bomb, or to read a huge header into memory."""

    def __init__(self, file: File, raw: BinaryIO, opener: Callable[[BinaryIO], Any] | None, most: int) -> None:
        self._file = file
        self._stream = opener(raw) if opener else raw
        self._unpacks = opener is not None
        self._most = most
        self.last = b""
        """What was read last."""
        self._limit = max(RATIO * file.size, 1024 * BOMB_BYTES)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._most + BLOCK:
            raise UserError(f"{self._file}: a header claims {size} bytes: damaged, or made to do harm")
        data = self._stream.read(size)
        if self._stream.tell() > self._limit:
            raise UserError(f"{self._file}: unpacks to more than {RATIO} times its size: a bomb, or not images")
        self.last = data
        return data

    def drain(self) -> None:
        """Read to the end: a compressed stream has its checksum there."""
        while self.read(HEADER_BYTES):
            pass

    def seek(self, offset: int, whence: int = 0) -> int:
        if not self._unpacks:
            return self._stream.seek(offset, whence)
        # A packed stream unpacks all that it steps over, and asks nobody: so it is read here, where that is counted.
        if whence or offset < self.tell():
            raise ValueError("steps back in a packed stream, which would be unpacked again from its start")
        while (left := offset - self.tell()) and self.read(min(left, HEADER_BYTES)):
            pass
        return self.tell()

    def tell(self) -> int:
        return self._stream.tell()


def _tar_trouble(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if member.issym() or member.islnk():
        return "link", "a link"
    if not member.isreg():
        return "device", "a pipe, socket or device, not a file"
    if member.issparse():
        return "unreadable", "a sparse file"
    return None


class _Zstandard:
    """Zstandard by pyarrow's library, which is here anyway; it takes frames in a row and no window above 128 MiB."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa  # here: a source without such an archive, or without Parquet, starts without it

        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        self._at = 0

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size and (part := self._stream.read(size)):  # which may be less than was asked for
            parts.append(part)
            size -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def tell(self) -> int:
        return self._at


_PACKERS: tuple[tuple[Callable[[BinaryIO], Any], bytes], ...] = (
    (lambda file: gzip.GzipFile(fileobj=file), b"\x1f\x8b"),
    (bz2.BZ2File, b"BZh"),
    (lzma.LZMAFile, b"\xfd7zXZ\x00"),
    (_Zstandard, b"\x28\xb5\x2f\xfd"),
    # Frames to skip, which say something to another program: pzstd begins with one (RFC 8878, 3.1.2).
    *((_Zstandard, bytes([kind]) + b"\x2a\x4d\x18") for kind in range(0x50, 0x60)),
)
