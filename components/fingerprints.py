"""The fingerprints of a picture, by which it is compared with others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.images import Damaged, decode

THUMB = 16  # px: side of the colour thumbnail
_LUMA = 32  # px: side of the grey picture whose cosine transform is hashed


def pixel_sha256(pixels: np.ndarray) -> str:
    """SHA-256 of size and pixels: equal for files that show exactly the same."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(pixels)
    return digest.hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of a 16 x 16 grid, uint8 (16, 16, 3)."""
    return np.asarray(Image.fromarray(pixels).resize((THUMB, THUMB), Image.Resampling.BOX))


def _basis() -> tuple[np.ndarray, np.ndarray]:
    """The cosine transform's matrix (32, 32) and which 64 of its coefficients are hashed."""
    n = np.arange(_LUMA)
    matrix = np.cos(np.pi / _LUMA * (n[None, :] + 0.5) * n[:, None])
    frequency = (n[:, None] ** 2 + n[None, :] ** 2).ravel()
    return matrix, np.argsort(frequency, kind="stable")[1:65]  # the 64 lowest but the mean


_MATRIX, _LOWEST = _basis()


def perceptual_hash(pixels: np.ndarray) -> int:
    """64 bits, one for each low frequency of the luma: is it above the median?"""
    luma = Image.fromarray(pixels).convert("L").resize((_LUMA, _LUMA), Image.Resampling.BOX)
    waves = _MATRIX @ np.asarray(luma, np.float64) @ _MATRIX.T
    low = np.round(waves.ravel()[_LOWEST], 4)  # so that the last bits of a sum do not decide
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@dataclass(frozen=True)
class Facts:
    """What is known of a picture once it has been decoded; width and height in px, as shown."""

    width: int
    height: int
    mode: str
    format: str
    pixel_sha256: str
    phash: int
    thumb: np.ndarray


def examine(batch: list[tuple[bytes, str]], *, max_pixels: int) -> list[Facts | tuple[str, str]]:
    """The facts of each (bytes, matte), or (reason, detail) when it cannot be decoded; pure."""
    return [_examine(data, matte, max_pixels) for data, matte in batch]


def _examine(data: bytes, matte: str, max_pixels: int) -> Facts | tuple[str, str]:
    try:
        picture = decode(data, matte, max_pixels=max_pixels)
    except Damaged as damaged:
        return damaged.reason, damaged.detail
    height, width = picture.pixels.shape[:2]
    return Facts(
        width=width, height=height, mode=picture.mode, format=picture.format,
        pixel_sha256=pixel_sha256(picture.pixels), phash=perceptual_hash(picture.pixels),
        thumb=thumbnail(picture.pixels),
    )  # fmt: skip
