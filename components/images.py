"""How an image file becomes pixels.

Pixels are uint8 RGB, (H, W, 3), as a viewer shows them: turned as EXIF says, the first frame, transparency
laid on the matte (colours hidden under it never show), 16 bits scaled to 8.  What is damaged is told, never mended.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

from components import jpeg, png

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_LONGEST = 65_535  # px: what Pillow and the formats agree on

Image.MAX_IMAGE_PIXELS = None  # ours is a parameter and is checked before anything is decoded
ImageFile.LOAD_TRUNCATED_IMAGES = False
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class Damaged(Exception):
    """An image that cannot be used: ``reason`` is one word, ``detail`` one sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Picture:
    """Decoded ``pixels``, uint8 (H, W, 3); ``mode`` and ``format`` are those of the file."""

    pixels: np.ndarray
    mode: str
    format: str


def decode(data: bytes, matte: str, *, max_pixels: int) -> Picture:
    """The picture in ``data`` on ``matte`` (#rrggbb); Damaged when it is broken, foreign or too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files: we decide, and say it in the verdict
        try:
            return _decode(data, matte, max_pixels)
        except Damaged:
            raise
        except MemoryError:
            raise Damaged("too_large", "does not fit in memory") from None
        except Exception as error:  # Pillow raises SyntaxError, struct.error, KeyError and more on bad files
            raise Damaged("damaged", _one_line(error)) from None


def _decode(data: bytes, matte: str, max_pixels: int) -> Picture:
    image = _open(data)
    kind, mode, (width, height) = image.format, image.mode, image.size
    if width * height > max_pixels or max(width, height) > _LONGEST:
        raise Damaged("too_large", f"{width} x {height} pixels, at most {max_pixels} in all are decoded")
    if kind == "PNG" and (wrong := png.trouble(data)):
        raise Damaged("damaged", wrong)
    if kind == "JPEG" and (wrong := jpeg.trouble(data, width, height)):
        raise Damaged("damaged", wrong)
    turn = _turn(image)  # before load(), which can drop what the header said
    image.load()
    pixels = _to_rgb(image, matte)
    if kind == "JPEG" and jpeg.rows_missing(data, pixels):
        raise Damaged("damaged", "holds fewer rows than its header claims")
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    return Picture(np.ascontiguousarray(pixels), mode, kind)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        pass
    try:
        with Image.open(io.BytesIO(data)) as image:
            other = image.format
    except Exception:
        if data.startswith((png.SIGNATURE, b"\xff\xd8\xff", b"GIF8", b"RIFF")):
            raise Damaged("damaged", "its header is broken") from None
        raise Damaged("not_an_image", "no image format that is known here") from None
    raise Damaged("format", f"{other}, wanted one of {', '.join(FORMATS)}")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(0x0112))  # Orientation
    except Exception:
        return None  # broken notes about a sound picture: show it as it lies


def _to_rgb(image: Image.Image, matte: str) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, matte)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        # La and RGBa hold colours already multiplied; Pillow goes by way of RGBA.
        return _lay_on(image.convert("RGBA"), matte)
    if image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA":
        return _lay_on(image.convert("RGBA"), matte)
    return np.asarray(image.convert("RGB"))


def _lay_on(image: Image.Image, matte: str) -> np.ndarray:
    ground = Image.new("RGB", image.size, matte)
    ground.paste(image, mask=image.getchannel("A"))
    return np.asarray(ground)


def _deep_grey(image: Image.Image, matte: str) -> np.ndarray:
    """Grey of 16 bits (or of 0..1) scaled to 8; Pillow's own conversion would clip it to white."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also when one is not a number
            raise Damaged("format", f"float pixels from {low:g} to {high:g}, wanted 0..1")
        grey = np.round(values * 255.0).astype(np.uint8)
    else:
        if low < 0 or high > 65_535:
            raise Damaged("format", f"integer pixels from {low:g} to {high:g}, wanted 0..65535")
        grey = ((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        pixels[values == hidden] = np.frombuffer(bytes.fromhex(matte[1:]), np.uint8)
    return pixels


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
