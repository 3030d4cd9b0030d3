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
    """Each (bytes, matte) as side x side x 3 bytes of RGB; pure."""
    # What clean has kept was decoded before under its limit of pixels.
    return [_scale(images.decode(data, matte, max_pixels=2**31).pixels, matte, side, fit) for data, matte in batch]


def _scale(pixels: np.ndarray, matte: str, side: int, fit: str) -> bytes:
    height, width = pixels.shape[:2]
    if fit == "crop":
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        pixels = pixels[top : top + edge, left : left + edge]
        size = side, side
    else:
        longer = max(height, width)
        size = tuple(max(1, round(side * length / longer)) for length in (height, width))
    pixels = resized(pixels, size)
    if size == (side, side):
        return pixels.tobytes()
    ground = np.frombuffer(bytearray(bytes.fromhex(matte[1:]) * side**2), np.uint8).reshape(side, side, CHANNELS)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    ground[top : top + size[0], left : left + size[1]] = pixels
    return ground.tobytes()


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
