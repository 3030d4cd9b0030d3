"""One picture to the size of the pack.  Small ones by Pillow, so that a refresh with small images loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from components.base.algorithms import Algorithm
from components.decode import images

ALGORITHM = Algorithm("scale", 1, ("numpy", "pillow", "torch", "torchvision"), uses=(images.ALGORITHM,))
CHANNELS = 3
LARGE = 256 * 256  # px: above this torchvision is worth the two seconds that it takes to load
TORCH = ("torch", "torchvision.transforms.v2.functional")  # what a worker for large pictures loads beforehand


def scale(batch: Sequence[tuple[bytes, str]], *, side: int, fit: str) -> list[bytes]:
    """Each (bytes, matte) as side x side x 3 bytes of RGB; ``fit`` is pad or crop; pure."""
    return scale_each([(data, (matte, (side, side))) for data, matte in batch], fit=fit)


def scale_each(batch: Sequence[tuple[bytes, tuple[str, tuple[int, int]]]], *, fit: str) -> list[bytes]:
    """Each (bytes, (matte, (height, width))) as height x width x 3 bytes of RGB; pad makes squares only; pure."""
    # What clean has kept was decoded before under its limit of pixels.
    return [
        _scale(images.decode(data, matte, max_pixels=2**31).pixels, matte, size, fit) for data, (matte, size) in batch
    ]


def _scale(pixels: np.ndarray, matte: str, wanted: tuple[int, int], fit: str) -> bytes:
    if fit == "crop":
        return resized(cut(pixels, wanted), wanted).tobytes()
    height, width = pixels.shape[:2]
    side, longer = wanted[0], max(height, width)
    size = max(1, round(side * height / longer)), max(1, round(side * width / longer))
    pixels = resized(pixels, size)
    if size == (side, side):
        return pixels.tobytes()
    ground = np.frombuffer(bytearray(bytes.fromhex(matte[1:]) * side**2), np.uint8).reshape(side, side, CHANNELS)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    ground[top : top + size[0], left : left + size[1]] = pixels
    return ground.tobytes()


def cut(pixels: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    """The middle of ``pixels`` (H, W, ...) that has the aspect of ``wanted`` (height, width), to the nearest pixel."""
    height, width = pixels.shape[:2]
    high = max(1, min(height, (2 * width * wanted[0] + wanted[1]) // (2 * wanted[1])))
    wide = max(1, min(width, (2 * height * wanted[1] + wanted[0]) // (2 * wanted[0])))
    top, left = (height - high) // 2, (width - wide) // 2
    return pixels[top : top + high, left : left + wide]


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) at ``size`` (height, width): bicubic, smoothed before it is made smaller."""
    if pixels.shape[:2] == size:
        return pixels
    if pixels.shape[0] * pixels.shape[1] <= LARGE:
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size[::-1], Image.Resampling.BICUBIC))
    import torch  # here, and in the workers only: the data stages start without it
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F  # noqa: N812

    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)  # the pool has a process a core
    image = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)  # HWC -> CHW
    scaled = F.resize(image, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)
    return scaled.permute(1, 2, 0).contiguous().numpy()
