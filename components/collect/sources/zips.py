"""Zip archives as sources: the names of their members, and their bytes, of which no header is believed."""

from __future__ import annotations

import itertools
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO, cast

from components.base.errors import UserError
from components.collect.sources.source import File, Item, Refusal, sift

# Images are compressed already: whatever unpacks to more times its size than this is a bomb (deflate reaches 1,032).
RATIO = 200
BOMB_BYTES = 2**20  # below this many unpacked bytes (a member), or 1,024 times that (a tar.gz), no harm is done
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError,
          RuntimeError, MemoryError)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_HEADER = 30  # bytes of the header before a member
_ENTRY, _ENTRY_BYTES = b"PK\1\2", 46  # of the list of members at the end (APPNOTE 4.3.12)
_UTF8 = 0x800  # the flag which says that a name is UTF-8 (4.4.4)
_UNICODE_PATH = 0x7075  # the extra field with a name in UTF-8 (4.6.9)
# Bytes asked for at a time. zipfile unpacks no more than is asked for by deflate, and by the other two whatever comes
# of so many packed bytes, which may be 20,000 times as many.
_PIECE, _SMALL_PIECE = 2**16, 2**12


class Zip:
    """A zip archive."""

    form = "zip"

    def __init__(self, file: File) -> None:
        self.file = file
        stream = _Unflagged(file.open())
        try:
            self._zip = zipfile.ZipFile(cast(BinaryIO, stream))
        except BROKEN as error:
            raise damaged(file, error) from None
        stream.listed = True
        self._members = [
            (_name(info, utf8), info) for info, utf8 in zip(self._zip.infolist(), stream.utf8, strict=True)
        ]

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every regular member and every refusal, each sorted by key."""
        members = [(name, info) for name, info in self._members if not name.endswith("/")]
        overlapping = _overlapping([info for _, info in members])
        return sift((name, info.file_size, info, _trouble(info, overlapping)) for name, info in members)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order in which they lie in the archive; a wrong checksum is a damaged one."""
        for item in sorted(items, key=lambda item: item.location.header_offset):
            piece = _PIECE if item.location.compress_type in _METHODS[:2] else _SMALL_PIECE
            try:
                with self._zip.open(item.location) as stream:
                    data = b"".join(iter(partial(stream.read, piece), b""))
                if len(data) != item.size:
                    raise EOFError("it is cut off")
            except BROKEN as error:
                raise damaged(self.file, error, item.key) from None
            yield item, data


def damaged(file: File, error: Exception, key: str = "") -> UserError:
    """The error that says that the archive ``file`` cannot be read, and at which member."""
    where = f"{file} ({key})" if key else f"{file}"
    return UserError(f"{where}: damaged or cut off ({error or type(error).__name__}): fetch the archive again")


class _Unflagged:
    """A zip's stream in whose list of members no name is said to be UTF-8; ``utf8`` tells for each what it says.

    zipfile gives up on an archive with one name that is not UTF-8 and says it is.  Without the flag it takes names for
    code page 437, where every byte is a letter, so the bytes of a name can be told from it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.listed = False
        """Set it when the list of members has been read: from then on bytes come as they are."""
        self.utf8: list[bool] = []
        self.seek, self.tell, self.seekable, self.close = stream.seek, stream.tell, stream.seekable, stream.close
        self._read = stream.read

    def read(self, size: int = -1) -> bytes:
        """The next bytes; zipfile reads the list of members at once."""
        data = self._read(size)
        if self.listed or not data.startswith(_ENTRY):
            return data
        self.utf8, at, changed = [], 0, bytearray(data)
        while data.startswith(_ENTRY, at) and at + _ENTRY_BYTES <= len(data):
            (flags,) = struct.unpack_from("<H", data, at + 8)
            struct.pack_into("<H", changed, at + 8, flags & ~_UTF8)
            self.utf8.append(bool(flags & _UTF8))
            at += _ENTRY_BYTES + sum(struct.unpack_from("<HHH", data, at + 28))  # name, extra fields, comment
        return bytes(changed)


def _name(info: zipfile.ZipInfo, is_utf8: bool) -> str:
    """The name of a member with ``/`` between folders; bytes that are no text become lone surrogates.

    Its field for names in UTF-8 counts where there is one; else it is UTF-8 where it can be, as Info-ZIP writes it
    without saying so, and code page 437 where it cannot and does not say that it is.
    """
    raw, shown = info.orig_filename.encode("cp437"), info.orig_filename
    if is_utf8:  # what _Unflagged took away: zipfile compares this name with the one before the member's bytes
        shown = info.orig_filename = raw.decode("utf-8", "surrogateescape")
        info.flag_bits |= _UTF8
    better = _unicode_path(info.extra, raw)
    try:
        name = (raw if better is None else better).decode("utf-8")
    except UnicodeDecodeError:
        name = shown if better is None else better.decode("utf-8", "surrogateescape")
    return name.replace("\\", "/")  # only / may stand there (APPNOTE 4.4.17), and some programs write the other one


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """The name in ``extra``, when it was made for the name ``raw`` in the header."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == _UNICODE_PATH and len(body) == length > 5 and body[0] == 1:
            return body[5:] if struct.unpack_from("<I", body, 1)[0] == zlib.crc32(raw) else None
        at += 4 + length
    return None


def _trouble(info: zipfile.ZipInfo, overlapping: set[int]) -> tuple[str, str] | None:
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
        if one.header_offset + _HEADER + one.compress_size > next_one.header_offset
    }
