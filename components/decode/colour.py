"""Stored colours to sRGB: profiles, ink, transparency, and pixels of more than 8 bits."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}  # what a profile calls each mode
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
BROKEN = "its colour profile is broken or of another kind, and was left out"
LONG = "its colour profile is too long, and was left out"


def to_rgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """``image`` (L, RGB, CMYK or LAB) in sRGB, and '' or what was left undone.

    By its profile: relative colorimetric, with black point compensation.  Without one, or with one that is broken
    or of another kind of colour: grey and RGB are sRGB already, and ink is R = 255 (1 - C)(1 - K), G and B alike.
    """
    note = ""
    if profile or image.mode == "LAB":
        try:
            change = _transform(profile, image.mode)
            if change is not None:
                return _applied(image, change), ""
        except (ImageCms.PyCMSError, OSError, ValueError):
            note = BROKEN
            if image.mode == "LAB" and (change := _transform(b"", "LAB")) is not None:
                return _applied(image, change), note
    return image if image.mode == "RGB" else image.convert("RGB"), note


def _applied(image: Image.Image, change: ImageCms.ImageCmsTransform) -> Image.Image:
    shown = ImageCms.applyTransform(image, change)
    assert shown is not None  # it is None for in-place work only
    return shown


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From ``profile`` to sRGB; None when that moves no colour by more than a level."""
    source: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile = ImageCms.createProfile("LAB")
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            raise ValueError(f"a profile of {source.profile.xcolor_space}")
    change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", _INTENT, _FLAGS)
    if mode in ("L", "RGB"):
        greys = np.arange(0, 256, 1 if mode == "L" else 15, dtype=np.uint8)
        grid = greys[None] if mode == "L" else np.stack(np.meshgrid(greys, greys, greys), -1).reshape(1, -1, 3)
        before = Image.fromarray(grid)
        moved = np.abs(
            np.asarray(before.convert("RGB")).astype(int) - np.asarray(ImageCms.applyTransform(before, change))
        )
        if moved.max() <= 1:
            return None
    return change


def lay_on(image: Image.Image, alpha: Image.Image, matte: str) -> np.ndarray:
    """RGB ``image`` on ``matte`` (#rrggbb), as far as ``alpha`` lets it be seen."""
    ground = Image.new("RGB", image.size, matte)
    ground.paste(image, mask=alpha)
    return np.asarray(ground)


def from_sixteen(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded."""
    return ((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)


def from_wide(values: np.ndarray) -> np.ndarray:
    """Grey numbers of any range to 0..255; ValueError when one of them is no number.

    Whole numbers within 0..65535 are 16 bits; fractions within 0..1 go from black to white.  Any other range is
    stretched: its least value black, its greatest white (all black when there is one value only).
    """
    if not np.isfinite(values).all():
        raise ValueError("not every pixel is a finite number")
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu"
    if whole and low >= 0 and high <= 65_535:
        return from_sixteen(values)
    if not whole and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.round((values.astype(np.float64) - low) * scale).astype(np.uint8)
