"""A file without what it says beside its picture: GPS and all other EXIF, XMP, IPTC, comments, later pictures' notes.

The picture stays to the bit, with its colour profile and the way it is to be turned.
"""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from components.decode import jpeg, png
from components.decode.picture import Damaged

_ORIENTATION = 0x0112
_PNG_PARTS = (
    b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"sBIT", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND",
)  # fmt: skip
_GIF_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")  # how often to repeat, and the colour profile
_HAS_EXIF, _HAS_XMP = 0x08, 0x04  # flags of WebP's part VP8X


def stripped(data: bytes) -> bytes:
    """``data``, a file that decodes, without what it says beside its picture; Damaged for a kind that is not known."""
    if data.startswith(jpeg.START):
        return jpeg.bare(data, _exif(jpeg.read(data).orientation))
    with Image.open(io.BytesIO(data)) as image:
        kind = image.format
        if kind in ("PNG", "WEBP"):
            image.load()
        turned = image.getexif().get(_ORIENTATION, 1) if kind in ("PNG", "WEBP") else 1
    if kind == "PNG":
        return _png(data, _exif(turned))
    if kind == "WEBP":
        return _webp(data, _exif(turned))
    if kind == "GIF":
        return _gif(data)
    if kind == "BMP":
        return data
    raise Damaged("format", f"what a {kind} says beside its picture cannot be taken out")


def _exif(orientation: int) -> bytes:
    """The EXIF that says ``orientation`` and nothing else; b"" for upright pictures."""
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return b""
    notes = Image.Exif()
    notes[_ORIENTATION] = orientation
    return notes.tobytes().removeprefix(b"Exif\0\0")


def _png(data: bytes, exif: bytes) -> bytes:
    parts, at = [png.SIGNATURE], len(png.SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_PARTS:
            parts.append(data[at : at + 12 + length])
        if kind == b"IHDR" and exif:
            crc = zlib.crc32(b"eXIf" + exif)
            parts.append(struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", crc))
        if kind == b"IEND":
            break
        at += 12 + length
    return b"".join(parts)


def _webp(data: bytes, exif: bytes) -> bytes:
    parts, at, end = [], 12, struct.unpack_from("<I", data, 4)[0] + 8
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            flags = body[0] & ~(_HAS_EXIF | _HAS_XMP) | (_HAS_EXIF if exif else 0)
            body = bytes([flags]) + body[1:]
        if kind in (b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"):
            parts.append(_riff(kind, body))
        at += 8 + length + length % 2
    if exif:
        parts.append(_riff(b"EXIF", exif))
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _gif(data: bytes) -> bytes:
    at = 13 + _colours(data[10])
    parts = [data[:at]]
    while data[at] != 0x3B:
        begin = at
        kept = True
        if data[at] == 0x21:
            label = data[at + 1]
            kept = label == 0xF9 or (label == 0xFF and data[at + 3 : at + 14] in _GIF_KEPT)
            at += 2
        elif data[at] == 0x2C:
            at += 11 + _colours(data[at + 9])
        else:  # an empty block
            at += 1
            continue
        while data[at]:
            at += 1 + data[at]
        at += 1
        if kept:
            parts.append(data[begin:at])
    return b"".join([*parts, b"\x3b"])


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
