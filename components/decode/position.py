"""Whether a file says where its picture was taken; its bytes are searched, and nothing is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MARKS = ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8))
"""What stands before EXIF in a JPEG, AVIF or HEIC, a PNG and a WebP, and the bytes from there to its beginning."""
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_GPS, _LATITUDE, _LONGITUDE = 0x8825, 2, 4  # EXIF 2.32: tags of the first directory, and of GPS's own
_TRIED, _ENTRIES = 16, 256  # marks of a kind, and entries of a directory, that are looked at
_XMP = b"exif:GPSLatitude"


def has_position(data: bytes) -> bool:
    """Whether the file ``data`` has a latitude and a longitude, in EXIF or in XMP."""
    return _XMP in data or any(_in_exif(data, start) for start in _starts(data))


def _starts(data: bytes) -> Iterator[int]:
    """Where EXIF begins, which is a TIFF without pictures; in a TIFF at its first byte."""
    if data[:4] in _ORDERS:
        yield 0
    for mark, length in _MARKS:
        at = data.find(mark)
        for _ in range(_TRIED):  # a hostile file may hold thousands
            if at < 0:
                break
            if data[at + length : at + length + 4] in _ORDERS:
                yield at + length
            at = data.find(mark, at + 1)


def _in_exif(data: bytes, start: int) -> bool:
    order = _ORDERS[data[start : start + 4]]
    try:
        (first,) = struct.unpack_from(order + "I", data, start + 4)
        for tag, value in _tags(data, start + first, order):
            if tag == _GPS:
                there = {each for each, _ in _tags(data, start + value, order)}
                return {_LATITUDE, _LONGITUDE} <= there
    except struct.error:  # cut off, or leads nowhere
        pass
    return False


def _tags(data: bytes, at: int, order: str) -> Iterator[tuple[int, int]]:
    """(tag, value or place) of each entry of the directory at ``at``."""
    (count,) = struct.unpack_from(order + "H", data, at)
    for number in range(min(count, _ENTRIES)):
        tag, _, _, value = struct.unpack_from(order + "HHII", data, at + 2 + 12 * number)
        yield tag, value
