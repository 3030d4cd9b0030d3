"""What Pillow lets pass in a PNG (wrong checksums, missing rows, a missing end), and the long notes it trips over."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, table 11.1)
# Adam7: first column, first row, step across, step down of each pass (section 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**20  # bytes unpacked at a time
LONGEST = 16 * 2**20  # bytes of a profile or of notes, once unpacked: the largest profiles of printers have 4 MiB
_DECIDE = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IDAT", b"IEND")
# Notes that can say which way up a picture is, as Image.getexif() of Pillow reads them.
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")


def trouble(data: bytes) -> str:
    """What is wrong with the PNG ``data``: '' when every checksum fits and every row is there."""
    at, packed, header = len(SIGNATURE), [], None
    while True:
        if at + 12 > len(data):
            return "cut off before its end"
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return "cut off before its end"
        body = memoryview(data)[at + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"wrong checksum in its {kind.decode('ascii', 'replace')} part"
        if header is None:
            if kind != b"IHDR" or length != 13:
                return "does not start with a header"
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed.append(body)
        elif kind == b"IEND":
            return _missing_rows(header, packed)
        at = end


def bare(data: bytes) -> tuple[bytes, bool]:
    """``data`` with those parts alone that decide what it shows, and whether a colour profile was too long to stay.

    Text goes, however long, and so do the later pictures of an APNG.  What is not whole stays as it is: ``trouble``
    says what is wrong with it.
    """
    at, parts, too_long = len(SIGNATURE), [data[: len(SIGNATURE)]], False
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return data, False
        is_note = kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(_TURNING, at + 8)
        if kind in _DECIDE or is_note:
            if (is_note or kind == b"iCCP") and _unpacked_too_long(kind, data[at + 8 : end - 4]):
                too_long |= kind == b"iCCP"
            else:
                parts.append(data[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(parts), too_long
    return data, False


def _unpacked_too_long(kind: bytes, body: bytes) -> bool:
    """Whether the profile or note ``body`` of a part ``kind`` has more than LONGEST bytes once it is unpacked."""
    rest = body.partition(b"\0")[2]
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return len(rest) > LONGEST
    # Behind the name (section 11.3.3): one byte in iCCP and zTXt, in iTXt two bytes and two more texts.
    packed = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    try:
        return len(zlib.decompressobj().decompress(packed, LONGEST + 1)) > LONGEST
    except zlib.error:
        return False  # Pillow leaves out what does not unpack


def deep_colour(data: bytes) -> bool:
    """Whether the PNG ``data``, which is whole, has 16 bits in each of three colours."""
    return data[24] == 16 and data[25] in (2, 6)  # depth and colour type (section 11.2.2)


def grey_key(data: bytes, hidden: int) -> int:
    """The level, 0..255, of the grey that counts as hidden, given as Pillow tells it; ``data`` b"" for no PNG."""
    depth = data[24] if data else 8
    return hidden * 255 // (2**depth - 1) if depth in (2, 4) else hidden


def _missing_rows(header: tuple[int, ...], packed: list[memoryview]) -> str:
    width, height, depth, colour, _, _, interlaced = header
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * bits + 7) // 8)  # one filter byte a row
    unpacker, found = zlib.decompressobj(), 0
    try:
        for part in packed:
            rest: bytes | memoryview = part
            while rest and not unpacker.eof and found < wanted:
                found += len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
        while found < wanted and not unpacker.eof and (more := unpacker.decompress(b"", _PIECE)):
            found += len(more)
    except zlib.error as error:
        return f"its pixels do not unpack ({error})"
    return "" if found >= wanted else f"holds {found} of {wanted} bytes of pixels"
