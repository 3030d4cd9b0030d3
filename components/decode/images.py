"""How an image file becomes pixels: the one pixel rule, in words in docs/data.md.

Pixels are uint8 RGB, (H, W, 3), in sRGB, as a viewer shows them: turned as EXIF says, the first frame, transparency
laid on the matte (colours hidden under it never show), more than 8 bits scaled to 8.  Damage is reported and not
repaired.
"""

from __future__ import annotations

import dataclasses
import io
import warnings

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile, PngImagePlugin

from components.base.algorithms import Algorithm
from components.base.workers import Loss
from components.decode import colour, containers, heif, jpeg, jxl, png
from components.decode.picture import Damaged, Picture, one_line

__all__ = ["ALGORITHM", "FORMATS", "UNDECIDED", "Damaged", "Picture", "decode", "lost"]

ALGORITHM = Algorithm("decode", 5, (
    "numpy", "opencv-python-headless", "pillow", "pillow-heif", "pillow-jxl-plugin", "simplejpeg"
))  # fmt: skip
UNDECIDED = "undecided"
"""The reason of an image that this machine could not decode at that moment."""
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "JXL", "GIF", "BMP", "TIFF", "PPM")
"""By Pillow's names; JXL is JPEG XL, PPM is all of netpbm: PBM, PGM, PPM."""
_LONGEST = 65_535  # px: what Pillow and the formats agree on
_BY_PILLOW = tuple(name for name in FORMATS if name not in ("JPEG", "HEIF", "JXL"))

Image.MAX_IMAGE_PIXELS = None  # ours is a parameter and is checked before anything is decoded
ImageFile.LOAD_TRUNCATED_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each of our processes has a core
PngImagePlugin.MAX_TEXT_CHUNK = png.LONGEST  # what is longer is taken out before Pillow sees it
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def decode(data: bytes, matte: str, *, max_pixels: int) -> Picture:
    """The picture in ``data`` on ``matte`` (#rrggbb); Damaged when it is broken, foreign or too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files: we decide, and say it in the verdict
        try:
            if data.startswith(jpeg.START):
                return _jpeg(data, max_pixels)
            return _jxl(data, matte, max_pixels) if jxl.is_jxl(data) else _other(data, matte, max_pixels)
        except Damaged:
            raise
        except MemoryError:
            raise Damaged("too_large", "does not fit in memory") from None
        except Exception as error:  # Pillow raises SyntaxError, struct.error, KeyError and more on bad files
            unread = "unsupported" in str(error).lower()  # a kind of BMP, mostly
            raise Damaged("format" if unread else "damaged", one_line(error)) from None


def lost(item: tuple[bytes, str], loss: Loss) -> tuple[str, str]:
    """(reason, detail) of an image whose worker was lost; UNDECIDED is no fact about its bytes, and is not kept."""
    detail = f"{loss.why}, on these {len(item[0])} bytes"
    if loss.by_machine:
        return UNDECIDED, f"{detail}; it is tried again when the stage runs next"
    return ("too_large" if "memory" in loss.why else "damaged"), detail


def _jpeg(data: bytes, max_pixels: int) -> Picture:
    header = jpeg.read(data)
    _check_size(header.width, header.height, max_pixels)
    pixels, note = jpeg.decode(data, header), ""
    if header.profile or header.mode != "RGB":
        image, note = colour.to_rgb(Image.fromarray(pixels.squeeze(2) if header.mode == "L" else pixels, header.mode)
                                    if header.mode != "CMYK" else _ink(pixels), header.profile)  # fmt: skip
        pixels = np.asarray(image)
    return _made(pixels, _TURNS.get(header.orientation), header.mode, "JPEG", note)


def _jxl(data: bytes, matte: str, max_pixels: int) -> Picture:
    _check_size(*jxl.size(data), max_pixels)
    found = jxl.read(data)
    if isinstance(found, bytes):
        return dataclasses.replace(_jpeg(found, max_pixels), format="JXL")
    pixels, note = _to_rgb(found, b"", matte)
    return _made(pixels, None, found.mode, "JXL", note)


def _ink(pixels: np.ndarray) -> Image.Image:
    return Image.frombytes("CMYK", pixels.shape[1::-1], pixels.tobytes())


def _other(data: bytes, matte: str, max_pixels: int) -> Picture:
    read, too_long = png.bare(data) if data.startswith(png.SIGNATURE) else (data, False)
    image = _open(read)
    kind, mode = image.format or "", image.mode
    _check_size(*image.size, max_pixels)
    if wrong := png.trouble(data) if kind == "PNG" else containers.trouble(kind, data):
        raise Damaged("damaged", wrong)
    # Before the orientation: Image.getexif() can load by itself, and what it finds damaged no later load() tells
    # again.  And load() turns a TIFF, after which its orientation is gone from what getexif() says.
    image.load()
    turn = _turn(image)
    if kind == "PNG" and png.deep_colour(read):
        pixels, note = _deep_colour(read, image.info.get("icc_profile"), matte)
    else:
        pixels, note = _to_rgb(image, read if kind == "PNG" else b"", matte)
    return _made(pixels, turn, mode, kind, note or (colour.LONG if too_long else ""))


def _made(pixels: np.ndarray, turn: Image.Transpose | None, mode: str, kind: str, note: str) -> Picture:
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    return Picture(np.ascontiguousarray(pixels), mode, kind, note)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > _LONGEST:
        raise Damaged("too_large", f"{width} x {height} pixels, at most {max_pixels} in all are decoded")


def _open(data: bytes) -> Image.Image:
    if heif.is_heif(data):
        return heif.opened(data)
    try:
        return Image.open(io.BytesIO(data), formats=_BY_PILLOW)
    except Image.UnidentifiedImageError:
        pass
    if kind := containers.called(data):
        raise Damaged("damaged", f"begins as {kind}, and the rest of its header is broken or of no known kind")
    try:
        with Image.open(io.BytesIO(data)) as image:
            other = image.format
    except Exception:
        raise Damaged("not_an_image", "no image format that is known here") from None
    raise Damaged("format", f"{other}, wanted one of {', '.join(FORMATS)}")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))  # Orientation
    except Exception:
        return None  # broken notes about a sound picture: show it as it lies


def _to_rgb(image: Image.Image, source: bytes, matte: str) -> tuple[np.ndarray, str]:
    """The picture in sRGB and '' or what was left undone; ``source`` is the file when it is a PNG."""
    profile = image.info.get("icc_profile") or b""
    hidden = image.info.get("transparency")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey, note = colour.to_rgb(Image.fromarray(colour.from_wide(values)), profile)
        if isinstance(hidden, int):
            seen = Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
            return colour.lay_on(grey, seen, matte), note
        return np.asarray(grey), note
    if image.mode in ("1", "L") and isinstance(hidden, int):
        # Pillow compares the key with pixels that it has stretched from 1, 2 or 4 bits to 8.
        key = png.grey_key(source, hidden)
        seen = Image.fromarray(np.where(np.asarray(image.convert("L")) == key, 0, 255).astype(np.uint8))
        shown, note = colour.to_rgb(image.convert("L"), profile)
        return colour.lay_on(shown, seen, matte), note
    see_through = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or hidden is not None
    if see_through or (image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"):
        # La and RGBa hold colours already multiplied; Pillow goes by way of RGBA.
        is_grey = image.mode in ("LA", "La")
        whole = image.convert("RGBA")
        shown, note = colour.to_rgb(whole.getchannel("R") if is_grey else whole.convert("RGB"), profile)
        return colour.lay_on(shown, whole.getchannel("A"), matte), note
    shown, note = colour.to_rgb(image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB"), profile)
    return np.asarray(shown), note


def _deep_colour(data: bytes, profile: bytes | None, matte: str) -> tuple[np.ndarray, str]:
    """A PNG of 16 bits a colour: Pillow keeps their upper halves only, and so misses a colour that means hidden."""
    import cv2  # here: few images are such, and it is slow to import

    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        raise Damaged("damaged", "its pixels do not unpack")
    eight_bit = colour.from_sixteen(deep)
    shown, note = colour.to_rgb(Image.fromarray(np.ascontiguousarray(eight_bit[..., 2::-1])), profile or b"")
    if eight_bit.shape[2] == 3:
        return np.asarray(shown), note
    return colour.lay_on(shown, Image.fromarray(np.ascontiguousarray(eight_bit[..., 3])), matte), note
