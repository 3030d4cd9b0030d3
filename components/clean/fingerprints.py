"""The fingerprints of a picture, by which it is compared with others.

Exact: SHA-256 of size and pixels.  By shape: a perceptual hash of 256 bits, the signs of the lowest 16 x 16
coefficients of the cosine transform of 32 x 32 luma.  By colour: a thumbnail of 32 x 32 mean colours.
All sums are of integers that a float64 holds exactly, so neither the batch nor the machine decides a bit.

An orientation is a number 0..7: bit 0 mirrors left and right, bit 1 top and bottom, bit 2 then swaps the axes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from components.base.algorithms import Algorithm
from components.decode import images, position
from components.decode.images import Damaged, decode

ALGORITHM = Algorithm("fingerprints", 2, ("numpy", "pillow"), uses=(images.ALGORITHM,))
SIDE = 32  # px: side of the thumbnail, and of the luma that is transformed
BITS = 256
FACTS = np.dtype([
    ("reason", "S16"), ("detail", "S200"), ("width", "<u4"), ("height", "<u4"), ("mode", "S8"), ("format", "S8"),
    ("position", "?"),
    ("pixels", "u1", 32), ("phash", "u1", BITS // 8), ("thumb", "u1", (SIDE, SIDE, 3)),
])  # fmt: skip
"""What is known of one image; ``reason`` and ``detail`` (UTF-8) are empty unless it cannot be decoded; ``position``:
whether its file says where it was taken."""

ORIENTATIONS = ("", "flip", "flip turn 180", "turn 180", "flip turn 270", "turn 270", "turn 90", "flip turn 90")
"""What each orientation does to a picture; ``flip`` mirrors left and right, turns are clockwise and come after it."""
_NEIGHBOURS = ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1]))
_WAVES = 16  # frequencies each way
_MATRIX = np.round(4096 * np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(_WAVES)[:, None]))
_FAINT = 2.0 * 16384**2  # the size of a coefficient of noise of 2 levels a cell: rounding, and mild JPEG
_FLAT = 0.2  # share of neighbouring cells of one colour: 99 % of emoji have more, 99 % of CIFAR-10's photographs less
_DEAD = 0.25  # of the median size of a coefficient: what is smaller is no sign but noise, as in symmetric pictures


def examine(batch: list[tuple[bytes, str]], *, max_pixels: int) -> np.ndarray:
    """The FACTS of each (bytes, matte); pure."""
    found = np.zeros(len(batch), FACTS)
    for fact, (data, matte) in zip(found, batch, strict=True):
        try:
            picture = decode(data, matte, max_pixels=max_pixels)
        except Damaged as damaged:
            refuse(fact, damaged.reason, damaged.detail)
            continue
        fact["height"], fact["width"] = picture.pixels.shape[:2]
        fact["position"] = position.has_position(data)
        fact["mode"], fact["format"] = picture.mode.encode(), picture.format.encode()
        fact["pixels"] = np.frombuffer(bytes.fromhex(pixel_sha256(picture.pixels)), np.uint8)
        fact["thumb"] = thumbnail(picture.pixels)
    found["phash"] = hashes(found["thumb"])
    found["phash"][found["reason"] != b""] = 0
    return found


def refuse(fact: np.ndarray | np.void, reason: str, detail: str) -> None:
    """Make of ``fact``, one record, the fact that its image cannot be used."""
    fact["reason"] = reason.encode()
    fact["detail"] = detail.encode()[:200].decode("utf-8", "ignore").encode()


def pixel_sha256(pixels: np.ndarray) -> str:
    """SHA-256 of size and pixels: equal for files that show exactly the same."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of a 32 x 32 grid, uint8 (32, 32, 3); its cells have the picture's shape."""
    # Not BOX: at 48 px its cells are 1 and 2 px wide by turns, so that a mirrored picture gets another thumbnail.
    small = min(pixels.shape[:2]) < SIDE
    resampling = Image.Resampling.BICUBIC if small else Image.Resampling.HAMMING
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), resampling, reducing_gap=3.0))


def drawn(thumbs: np.ndarray) -> np.ndarray:
    """Whether each thumbnail (N, 32, 32, 3) shows a drawing on flat ground, bool (N,).

    Different drawings share outlines as different photographs do not, so that more is asked of a pair of them.
    """
    red, green, blue = (thumbs[..., channel].astype(np.uint32) for channel in range(3))
    colours = red << 16 | green << 8 | blue
    flat = sum((colours[a] == colours[b]).sum(axis=(1, 2)) for a, b in _NEIGHBOURS)
    return np.asarray(flat >= _FLAT * 2 * SIDE * (SIDE - 1))


def luma(thumbs: np.ndarray) -> np.ndarray:
    """Whole numbers 0..255, float64 (N, 32, 32), of uint8 (N, 32, 32, 3)."""
    red, green, blue = (thumbs[..., channel].astype(np.uint16) for channel in range(3))
    return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.float64)  # Rec. 601, in 256ths


def hashes(thumbs: np.ndarray, orientation: int = 0) -> np.ndarray:
    """The perceptual hashes, uint8 (N, 32), of thumbnails seen in ``orientation``."""
    return _signs(oriented(_waves(luma(thumbs)), orientation))


def all_hashes(thumbs: np.ndarray) -> np.ndarray:
    """The hashes in all 8 orientations, uint8 (8, N, 32), from one transform."""
    waves = _waves(luma(thumbs))
    return np.stack([_signs(oriented(waves, orientation)) for orientation in range(8)])


def oriented(waves: np.ndarray, orientation: int) -> np.ndarray:
    """Coefficients (N, W, W) of the picture in ``orientation``: a mirror turns the signs of the odd ones."""
    odd = 1.0 - 2.0 * (np.arange(waves.shape[-1]) % 2)
    if orientation & 1:
        waves = waves * odd
    if orientation & 2:
        waves = waves * odd[:, None]
    return waves.swapaxes(1, 2) if orientation & 4 else waves


def seen(pictures: np.ndarray, orientation: int) -> np.ndarray:
    """``pictures`` (N, H, W, ...) in ``orientation``."""
    if orientation & 1:
        pictures = pictures[:, :, ::-1]
    if orientation & 2:
        pictures = pictures[:, ::-1]
    return pictures.swapaxes(1, 2) if orientation & 4 else pictures


def _waves(grey: np.ndarray) -> np.ndarray:
    return _MATRIX @ grey @ _MATRIX.T


def _signs(waves: np.ndarray) -> np.ndarray:
    flat = waves.reshape(len(waves), _WAVES * _WAVES)
    middle = flat.shape[1] // 2
    bits = flat > np.maximum(_DEAD * np.partition(np.abs(flat), middle, axis=1)[:, middle, None], _FAINT)
    bits[:, 0] = False  # the mean: brightness is not shape
    return np.packbits(bits, axis=1)
