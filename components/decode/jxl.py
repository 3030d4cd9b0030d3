"""JPEG XL (ISO/IEC 18181): by pillow-jxl-plugin where it is installed, `pip install "stillroom[jxl]"`.

The decoder unpacks a file as soon as it is asked for its size, so the header is read here first.  What decodes is part
of the key of what is kept of a file, so files that were refused for want of it are looked at again once it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.decode.picture import Damaged

if TYPE_CHECKING:
    from PIL import Image

MISSING = 'JPEG XL is read by pillow-jxl-plugin, which is not installed: pip install "stillroom[jxl]"'
_BARE, _BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Of width to height, by the number in the header less one (ISO/IEC 18181-1, table of SizeHeader)."""
_MODES = {"L": "L", "I": "L", "F": "F", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}
"""What Pillow calls the pixels of the plugin's modes, which end in ;16 where a number has two bytes."""
_CUT = "cut off before its end"


def is_jxl(data: bytes) -> bool:
    """Whether ``data`` claims to be JPEG XL, bare or in boxes."""
    return data.startswith((_BARE, _BOXED))


def size(data: bytes) -> tuple[int, int]:
    """Width and height as stored, before anything is unpacked; Damaged where it is no still picture of JPEG XL."""
    bits = _Bits(_codestream(data))
    width, height = _size(bits)
    if not bits.take(1) and bits.take(1):  # not all as usual, and more is said
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            raise Damaged("format", "JPEG XL with a preview inside, which nothing here reads")
        if bits.take(1):
            raise Damaged("format", "JPEG XL that moves, wanted a still picture")
    return width, height


def read(data: bytes) -> Image.Image | bytes:
    """The picture in ``data``, turned as it says; of a JPEG that was packed without loss, the bytes of the JPEG."""
    try:
        from pillow_jxl import Decoder  # here: few data sets have such a file
    except ImportError:
        raise Damaged("format", MISSING) from None
    try:
        packed, about, values, profile, _ = Decoder(num_threads=0)(data)  # each of our processes has a core
    except RuntimeError:
        raise Damaged("damaged", "cut off, or a part of it is broken") from None
    return bytes(values) if packed else _image(about, bytes(values), bytes(profile or b""))


def _image(about: Any, values: bytes, profile: bytes) -> Image.Image:
    import numpy as np
    from PIL import Image  # here: what fetches images only looks at their first bytes

    from components.decode import colour

    mode = _MODES.get(about.mode.split(";")[0])
    count = about.width * about.height * len(mode or "")
    wide = len(values) // max(1, count)
    if mode is None or wide * count != len(values) or not 1 <= wide <= 4:
        raise Damaged("format", f"JPEG XL of pixels {about.mode}, wanted grey or RGB")
    size = about.width, about.height
    if about.mode.startswith("F"):
        kept = np.frombuffer(values, np.float32 if wide == 4 else np.float16).astype(np.float32)
        image = Image.fromarray(kept.reshape(size[::-1]))
    elif wide == 2:
        image = Image.frombytes(mode, size, colour.from_sixteen(np.frombuffer(values, np.uint16)).tobytes())
    else:
        image = Image.frombytes(mode, size, values)
    image.info["icc_profile"] = profile
    return image


def _codestream(data: bytes) -> bytes:
    """The first bytes of the picture itself: all of a bare file, the inside of the first such box of the others."""
    if data.startswith(_BARE):
        return data[2:]
    at = len(_BOXED)
    while at + 8 <= len(data):
        length, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            if data[start : start + 2] != _BARE:
                break
            return data[start + 2 :]
        if length < head:  # 0: to the end of the file
            break
        at += length
    raise Damaged("damaged", "no picture in its boxes")


class _Bits:
    """Numbers out of bits, the lowest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self.left, self.value = min(len(data), 64) * 8, int.from_bytes(data[:64], "little")

    def take(self, count: int) -> int:
        if count > self.left:
            raise Damaged("damaged", _CUT)
        found = self.value & ((1 << count) - 1)
        self.left, self.value = self.left - count, self.value >> count
        return found


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height of a SizeHeader."""
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    if not ratio:
        return _side(bits, small), height
    wide, high = _RATIOS[ratio - 1]
    return height * wide // high, height


def _side(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take((9, 13, 18, 30)[bits.take(2)]) + 1
