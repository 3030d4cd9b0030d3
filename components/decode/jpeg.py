"""JPEG files: what their header says, whether they are whole, and their pixels by libjpeg-turbo in strict mode.

Strict means that a warning of the decoder is an error: data that end early, codes that do not exist, bytes between the
markers.  A JPEG has no checksum, so a flipped bit that makes another valid code shows and is not known.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from components.decode.picture import Damaged, one_line

START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_PADDING = bytes(16)  # lets the decoder look ahead of the last code; too short to pass for missing rows
_MOST_SCANS = 500  # a progressive picture needs some ten; each one more is a pass over all of it
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by the number of components
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_HUFFMAN = (0xC0, 0xC1, 0xC2)  # kinds of frame: baseline, extended, progressive
_ARITHMETIC = (0xC9, 0xCA)
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # within a scan: no stuffed byte, no restart


_DRAWS = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDB, 0xDD))
"""Frames, tables of codes and of quantisation, arithmetic conditions, the restart interval."""


@dataclass(frozen=True)
class Header:
    """What stands before the pixels; ``orientation`` is EXIF's 1..8."""

    width: int
    height: int
    mode: str
    progressive: bool
    huffman: bool
    orientation: int
    profile: bytes
    scan: int
    """Where the first scan begins in the file."""


def read(data: bytes) -> Header:
    """The header of the JPEG ``data``; Damaged when it is broken or of a kind that nobody decodes."""
    frame: tuple[int, bytes] | None = None
    parts: dict[tuple[int, int], bytes] = {}
    exif = b""
    for kind, at, body in _segments(data):
        if kind == 0xDA:
            if frame is None:
                raise Damaged("damaged", "its header is broken: pixels come before their size")
            return _header(frame, exif, parts, at)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and frame is None:
            frame = kind, body
        elif kind == 0xE1 and body[:6] == b"Exif\0\0" and not exif:
            exif = body
        elif kind == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            parts.setdefault((body[12], body[13]), body[14:])
    raise Damaged("damaged", "cut off in its header")


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, start, body) of each part up to the first scan; bytes between the parts are stepped over."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        start = at
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if at < 0 or at + 3 > len(data):
            return
        kind = data[at]
        at += 1
        if kind == 0 or kind == 0x01 or 0xD0 <= kind <= 0xD8:  # these stand alone
            continue
        if kind == 0xD9:
            return
        end = at + struct.unpack_from(">H", data, at)[0]
        if end > len(data) or end < at + 2:
            return
        yield kind, start, data[at + 2 : end]
        at = end


def _header(frame: tuple[int, bytes], exif: bytes, parts: dict, scan: int) -> Header:
    kind, body = frame
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise Damaged("damaged", "its header is broken")
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    if kind not in _HUFFMAN + _ARITHMETIC or bits != 8 or components not in _MODES:
        raise Damaged(
            "format", f"a JPEG of kind {kind - 0xC0}, {bits} bits and {components} colours: nothing here reads that"
        )
    if not width or not height:
        raise Damaged("damaged", f"its header claims {width} x {height} pixels")
    return Header(
        width=width, height=height, mode=_MODES[components], progressive=kind in (0xC2, 0xCA),
        huffman=kind in _HUFFMAN, orientation=_orientation(exif), profile=_profile(parts), scan=scan,
    )  # fmt: skip


def _orientation(exif: bytes) -> int:
    if not exif:
        return 1
    try:
        notes = Image.Exif()
        notes.load(exif)
        found = notes.get(0x0112)
    except Exception:
        return 1  # broken notes about a sound picture: show it as it lies
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _profile(parts: dict[tuple[int, int], bytes]) -> bytes:
    """The colour profile, in parts of 64 kB; a profile that lacks a part is given as it is, and is broken."""
    return b"".join(parts[at] for at in sorted(parts))


def bare(data: bytes, exif: bytes) -> bytes:
    """``data``, which decodes, up to the end of its first picture, with ``exif`` for all notes.

    What decides its pixels stays: tables, scans, a whole colour profile, the first bytes of JFIF's and Adobe's marks.
    Notes may stand between the scans too.  Damaged for a part that is not known.
    """
    out, profile = [data[:2]], b""
    if exif:
        out.append(_segment(0xE1, b"Exif\0\0" + exif))
    at, scan = 2, False
    while found := _MARKER.search(data, at):
        kind, start = found[1][0], at
        if scan:
            out.append(data[start : found.start()])
        scan, at = kind == 0xDA, found.end()
        if kind == 0xD9:
            whole(profile)
            return b"".join([*out, b"\xff\xd9"])
        if kind in (0x01, 0xD8):  # these stand alone
            continue
        end = at + struct.unpack_from(">H", data, at)[0]
        if end > len(data) or end < at + 2:
            break
        body, at = data[at + 2 : end], end
        if kind in _DRAWS or scan:
            out.append(_segment(kind, body))
        elif kind == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            out.append(_segment(kind, body[:12] + b"\0\0"))  # without a thumbnail
        elif kind == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            out.append(_segment(kind, body[:12]))
        elif kind == 0xE2 and body[:12] == b"ICC_PROFILE\0":
            profile += body[14:]
            out.append(_segment(kind, body))
        elif not 0xE0 <= kind <= 0xEF and kind != 0xFE:
            raise Damaged("format", f"a JPEG with a part FF{kind:02X}, which may hold notes")
    raise Damaged("damaged", "cut off")


def whole(profile: bytes) -> None:
    """Damaged when something stands behind a colour ``profile``, which begins with its length."""
    if profile and int.from_bytes(profile[:4], "big") != len(profile):
        raise Damaged("format", "its colour profile has another length than it says, so it may hold notes")


def decode(data: bytes, header: Header) -> np.ndarray:
    """The pixels as they are stored, uint8 (H, W, 1, 3 or 4), CMYK as ink; Damaged when any of them is missing."""
    if header.huffman and len(data) * 512 < header.width * header.height:
        # Each 8 x 8 block takes one bit at least, so 512 pixels need a byte.
        raise Damaged(
            "damaged", f"{len(data)} bytes cannot hold the {header.width} x {header.height} pixels its header claims"
        )
    if header.progressive and (wrong := _scans_missing(data, header.scan)):
        raise Damaged("damaged", wrong)
    try:
        pixels = _strict(data, header)
    except ValueError as error:
        if "subsampling" in str(error):
            pixels = _by_pillow(data, header)
        else:
            try:
                pixels = _strict(_plain(data), header)
            except ValueError:
                raise Damaged("damaged", one_line(error)) from None
    # Ink lies inverted in a JPEG: Adobe began it, and every viewer takes it so.
    return 255 - pixels if header.mode == "CMYK" else pixels


def _strict(data: bytes, header: Header) -> np.ndarray:
    pixels = simplejpeg.decode_jpeg(data, colorspace=_SPACES[header.mode], strict=True)
    if pixels.shape[:2] != (header.height, header.width):
        raise ValueError("two headers of different size")
    return pixels


def _by_pillow(data: bytes, header: Header) -> np.ndarray:
    """Pixels of odd chroma sampling, which TurboJPEG refuses; Pillow drops the decoder's warnings."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.load()
            pixels = np.asarray(image.convert(header.mode) if image.mode != header.mode else image)
    except Exception as error:
        raise Damaged("damaged", one_line(error)) from None
    if header.mode == "CMYK":
        pixels = 255 - pixels  # Pillow turns it already
    if not header.progressive and _rows_missing(data, pixels):
        raise Damaged("damaged", "holds fewer rows than its header claims")
    return pixels.reshape(header.height, header.width, -1)


def _rows_missing(data: bytes, pixels: np.ndarray) -> bool:
    """Whether the decoder ran out of data before the last row; ``pixels`` is what it made of it.

    Where data are missing libjpeg repeats one colour to the end.  So a last row of one colour is suspicious, and
    only then the image is decoded again, without its end marker: now the decoder has to ask for what is missing.
    """
    last = pixels[-1]
    if (last != last[0]).any():
        return False
    try:
        with Image.open(io.BytesIO(data[: data.rindex(_END)] + _PADDING), formats=("JPEG",)) as image:
            image.load()
    except (OSError, ValueError):
        return True
    return False


def _plain(data: bytes) -> bytes:
    """``data`` without what decoders warn of though the picture is whole.

    Dropped: notes and colour profiles, garbage between the parts, an Adobe marker of unknown meaning, zeros before
    the end marker.  Put right: the version of JFIF, and the three last bytes of the scan header, which only
    progressive pictures use.
    """
    out, sequential = [data[:2]], False
    for kind, at, body in _segments(data):
        if kind == 0xDA:
            codes = data[data.index(body, at) + len(body) :]
            if sequential and len(body) > 3:
                body = body[:-3] + b"\0\x3f\0"
            return b"".join([*out, _segment(kind, body), _unpadded(codes)])
        sequential |= kind in (0xC0, 0xC1)
        if kind == 0xE0 and body[:5] == b"JFIF\0":
            body = body[:5] + b"\1\1" + body[7:]
        if kind == 0xEE and (body[:5] != b"Adobe" or body[11:12] not in (b"\0", b"\1", b"\2")):
            continue
        if kind < 0xE0 or kind in (0xE0, 0xEE):
            out.append(_segment(kind, body))
    return data


def _unpadded(codes: bytes) -> bytes:
    end = next((found.end(1) - 2 for found in _MARKER.finditer(codes) if found[1] == b"\xd9"), -1)
    if end < 0:
        return codes
    body = codes[:end].rstrip(b"\0")
    stuffed = b"\0" if body.endswith(b"\xff") else b""  # that zero says that the byte before it is no marker
    return body + stuffed + codes[end:]


def _segment(kind: int, body: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body


def _scans_missing(data: bytes, at: int) -> str:
    """Whether a progressive picture lacks passes: each colour to its last bit, the first one with its detail."""
    left: dict[tuple[int, int], int] = {}  # (colour, frequency) -> bits not sent yet
    colours: set[int] = set()
    scans = 0
    while at >= 0:
        scans += 1
        if scans > _MOST_SCANS:
            return f"more than {_MOST_SCANS} passes over one picture"
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if len(body) < 4 or len(body) < 4 + 2 * body[0]:
            return "a pass with a broken header"
        first, last, low = body[-3], body[-2], body[-1] & 15
        for colour in body[1 : 1 + 2 * body[0] : 2]:
            colours.add(colour)
            left |= dict.fromkeys(((colour, at_) for at_ in range(first, min(last, 63) + 1)), low)
        at = _next_scan(data, at + 2 + length)
    luma = min(colours)
    fine = any(frequency for colour, frequency in left if colour == luma)
    if any(left.values()) or any((colour, 0) not in left for colour in colours) or not fine:
        return "cut off between two passes: the picture is there, its detail is not"
    return ""


def _next_scan(data: bytes, at: int) -> int:
    """Where the next scan begins after the scan whose codes begin at ``at``; -1 at the end."""
    while found := _MARKER.search(data, at):
        kind, start = found[1][0], found.end(1) - 2
        if kind == 0xDA:
            return start if start + 4 <= len(data) else -1
        if kind == 0xD9 or found.end() + 2 > len(data):
            return -1
        at = found.end() + struct.unpack_from(">H", data, found.end())[0]
    return -1
