"""GIF, WebP, TIFF and BMP: whether the file holds what it says, before a decoder that forgives sees it."""

from __future__ import annotations

import struct

from components.decode import heif

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"RIFF": "WEBP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_AVIF = (b"ftypavif", b"ftypavis")
"""Where a file of ISO's base media format says what it is: an AVIF, or a sequence of them."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_STRIPS, _TILES = (273, 279), (324, 325)  # TIFF 6.0: tags of the offsets and of the byte counts
_CUT = "cut off before its end"


def called(data: bytes) -> str:
    """The format that the first bytes of ``data`` claim; '' for none that is taken in."""
    if data[4:12] in _AVIF:
        return "AVIF"
    if heif.is_heif(data):
        return "HEIF"
    kind = next((name for start, name in _STARTS.items() if data.startswith(start)), "")
    return "" if kind == "WEBP" and data[8:12] not in (b"WEBP", b"") else kind


def trouble(kind: str, data: bytes) -> str:
    """What is wrong with ``data``, an image of format ``kind``; '' when it holds all that it says."""
    check = {"GIF": _gif, "WEBP": _webp, "TIFF": _tiff}.get(kind)
    if check is None:
        return ""
    try:
        return check(data)
    except (struct.error, IndexError):
        return _CUT


def _gif(data: bytes) -> str:
    """Every block up to the end marker is there."""
    at = 13 + _table(data[10])
    while True:
        kind = data[at]
        if kind == 0x3B:
            return ""
        if kind == 0x21:
            at = _blocks(data, at + 2)
        elif kind == 0x2C:
            at = _blocks(data, at + 11 + _table(data[at + 9]))
        elif kind == 0:  # a block that is empty: some programs write it between pictures
            at += 1
        else:
            return "holds something that is no part of a GIF"


def _table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> int:
    while length := data[at]:
        at += 1 + length
    return at + 1


def _webp(data: bytes) -> str:
    return _CUT if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) else ""


def _tiff(data: bytes) -> str:
    """Every strip or tile of the first picture lies within the file."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    tags: dict[int, tuple[int, ...]] = {}
    for _ in range(min(count, 4096)):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in _STRIPS + _TILES:
            tags[tag] = _numbers(data, at, kind, order, big)
        at += 20 if big else 12
    for offsets, counts in (_STRIPS, _TILES):
        if offsets in tags and counts in tags:
            for start, length in zip(tags[offsets], tags[counts], strict=False):
                if start + length > len(data):
                    return _CUT
    return ""


def _numbers(data: bytes, at: int, kind: int, order: str, big: bool) -> tuple[int, ...]:
    (many,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + 4)
    letter = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if letter is None or many * _SIZES[kind] > len(data):
        return ()
    room, inside = (8, at + 12) if big else (4, at + 8)
    if many * _SIZES[kind] > room:
        (inside,) = struct.unpack_from(order + ("Q" if big else "I"), data, inside)
    return struct.unpack_from(f"{order}{many}{letter}", data, inside)
