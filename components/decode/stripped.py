"""A file without what it says beside its picture: GPS and all other EXIF, XMP, IPTC, comments, later pictures' notes.

The picture stays to the bit, with its colour profile and the way it is to be turned.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from components.decode import jpeg, jxl, png
from components.decode.picture import Damaged
from components.decode.position import has_position

_ORIENTATION = 0x0112
_ANY = 2**31
_PNG_PARTS = {
    b"IHDR": 13, b"PLTE": 768, b"tRNS": 256, b"iCCP": _ANY, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"sBIT": 4, b"acTL": 8,
    b"fcTL": 26, b"fdAT": _ANY, b"IDAT": _ANY, b"IEND": 0,
}  # fmt: skip
"""The parts that stay, and how long each may be."""
_AT_ONCE = 2**20  # bytes unpacked at a time
_GIF_REPEATS, _GIF_PROFILE = (b"NETSCAPE2.0", b"ANIMEXTS1.0"), b"ICCRGBG1012"
_WEBP_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")
_HAS_EXIF, _HAS_XMP = 0x08, 0x04  # flags of WebP's part VP8X


def stripped(data: bytes) -> bytes:
    """``data``, a file that decodes, without what it says beside its picture; Damaged where these cannot be parted."""
    try:
        bare = _stripped(data)
    except (struct.error, IndexError, zlib.error):
        raise Damaged("damaged", "cut off, or a part of it is broken") from None
    if has_position(bare):  # whatever hid it
        raise Damaged("format", "says where it was taken in a place that is not known")
    return bare


def _stripped(data: bytes) -> bytes:
    if data.startswith(jpeg.START):
        return jpeg.bare(data, _exif(jpeg.read(data).orientation))
    if jxl.is_jxl(data):
        raise Damaged("format", "nothing here takes out what JPEG XL files say beside their pictures")
    with Image.open(io.BytesIO(data)) as image:
        kind = image.format
        if kind in ("PNG", "WEBP"):
            image.load()
        turned = image.getexif().get(_ORIENTATION, 1) if kind in ("PNG", "WEBP") else 1
    bare = {"PNG": _png, "WEBP": _webp, "GIF": _gif, "BMP": _bmp}.get(kind or "")
    if bare is None:
        raise Damaged("format", f"nothing here takes out what {kind} files say beside their pictures")
    return bare(data, _exif(turned))


def _exif(orientation: int) -> bytes:
    """The EXIF that says ``orientation`` and nothing else; b"" for upright pictures."""
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return b""
    notes = Image.Exif()
    notes[_ORIENTATION] = orientation
    return notes.tobytes().removeprefix(b"Exif\0\0")


def _png(data: bytes, exif: bytes) -> bytes:
    parts, at = [png.SIGNATURE], len(png.SIGNATURE)
    pixels: list[list[bytes]] = [[]]  # of each picture: an APNG has several
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind in _PNG_PARTS:
            if length > _PNG_PARTS[kind]:
                raise Damaged("format", f"its part {kind.decode()} is longer than it can be, so it may hold notes")
            if kind == b"iCCP":
                body = b"icc" + body[body.index(b"\0") :]  # its name may say anything
                _packed([body[5:]])
            elif kind == b"fcTL":
                pixels.append([])
            elif kind in (b"IDAT", b"fdAT"):
                pixels[-1].append(body[4:] if kind == b"fdAT" else body)
            parts.append(_chunk(kind, body))
        if kind == b"IHDR" and exif:
            parts.append(_chunk(b"eXIf", exif))
        if kind == b"IEND":
            break
        at += 12 + length
    for each in pixels:
        _packed(each)
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _packed(parts: list[bytes]) -> None:
    """Damaged when something stands behind the one zlib stream in ``parts``."""
    reader = zlib.decompressobj()
    for part in parts:
        if part and reader.eof:
            raise Damaged("format", "bytes stand behind its pixels, which may be notes")
        while part and not reader.eof:
            reader.decompress(part, _AT_ONCE)
            part = reader.unconsumed_tail
        if reader.unused_data:
            raise Damaged("format", "bytes stand behind its pixels, which may be notes")


def _webp(data: bytes, exif: bytes) -> bytes:
    parts, at, end = [], 12, struct.unpack_from("<I", data, 4)[0] + 8
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            flags = body[0] & ~(_HAS_EXIF | _HAS_XMP) | (_HAS_EXIF if exif else 0)
            body = bytes([flags]) + body[1:]
        if kind == b"ICCP":
            jpeg.whole(body)
        if kind == b"ANMF":
            body = body[:16] + b"".join(_riff(*each) for each in _chunks(body, 16) if each[0] in _WEBP_PIXELS)
        if kind in (b"VP8X", b"ICCP", b"ANIM", b"ANMF", *_WEBP_PIXELS):
            parts.append(_riff(kind, body))
        at += 8 + length + length % 2
    if exif:
        parts.append(_riff(b"EXIF", exif))
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _gif(data: bytes, _exif: bytes) -> bytes:
    at = 13 + _colours(data[10])
    parts = [data[:at]]
    while data[at] != 0x3B:
        begin = at
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C:
            at += 11 + _colours(data[at + 9])
        else:  # an empty block
            at += 1
            continue
        blocks = []
        while data[at]:
            blocks.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        at += 1
        if data[begin] == 0x2C or _gif_keeps(data[begin + 1], blocks):
            parts.append(data[begin:at])
    return b"".join([*parts, b"\x3b"])


def _gif_keeps(label: int, blocks: list[bytes]) -> bool:
    """Whether an extension decides what is shown: how long and where, how often to repeat, the colour profile."""
    if label == 0xF9:
        return [len(each) for each in blocks] == [4]
    if label != 0xFF or not blocks:
        return False
    if blocks[0] == _GIF_PROFILE:
        jpeg.whole(b"".join(blocks[1:]))
        return True
    return blocks[0] in _GIF_REPEATS and [len(each) for each in blocks[1:]] == [3]


def _bmp(data: bytes, _exif: bytes) -> bytes:
    """Header, colours and pixels, where these are all there is before the pixels' end."""
    (offset, header) = struct.unpack_from("<II", data, 10)
    if header not in (40, 52, 56, 108):
        raise Damaged("format", "a BMP of a kind whose parts are not all known")
    width, height, _, bits, packing, _, _, _, colours = struct.unpack_from("<iiHHIIiiI", data, 18)
    table = 4 * (colours or 1 << bits) if bits <= 8 else 0
    masks = 12 if packing == 3 and header == 40 else 0
    size = offset + (width * bits + 31) // 32 * 4 * abs(height)
    if packing not in (0, 3) or offset != 14 + header + masks + table or len(data) < size:
        raise Damaged("format", "a BMP of a kind whose parts are not all known")
    return data[:2] + struct.pack("<IHHI", size, 0, 0, offset) + data[14:size]


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
