"""Decode and resize to 256 px: Pillow against the path of stage `resize`, in processor seconds and decibels.

    python benchmarks/decode.py

Photographs: the two that scikit-learn carries, in four crops each, brought to each size and encoded as JPEG 90.  Both
sides see the same bytes in turn in one process of one thread, and each figure is the best of several rounds.
Agreement is the least peak signal-to-noise ratio between the two results.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import torch
from peers import machine
from PIL import Image
from sklearn.datasets import load_sample_images

from components.decode import images
from components.resize import scaling

SIDE = 256
MEGAPIXELS = (0.2, 0.5, 1.0, 3.0)
ROUNDS = 9


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| megapixels | Pillow, ms | here, ms | ratio | of it decoding, ms | agreement, dB |")
    print("|---|---|---|---|---|---|")
    for megapixels in MEGAPIXELS:
        files = _files(megapixels)
        theirs, ours, decoding = _times([_pillow, _here, _decode], files)
        decibels = min(_agreement(_pillow(data), _here(data)) for data in files)
        print(f"| {megapixels} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.2f} | {decoding:.2f} | {decibels:.1f} |")
    print(f"\n{machine()}")


def _files(megapixels: float) -> list[bytes]:
    found = []
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        for left, top in ((0, 0), (40, 0), (0, 30), (40, 30)):
            crop = Image.fromarray(photograph[top : height - 30 + top, left : width - 40 + left])
            times = (megapixels * 1e6 / (crop.width * crop.height)) ** 0.5
            size = round(crop.width * times), round(crop.height * times)
            stream = io.BytesIO()
            crop.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
            found.append(stream.getvalue())
    return found


def _pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    longer = max(image.size)
    size = tuple(max(1, round(SIDE * length / longer)) for length in image.size)
    small = image.resize(size, Image.Resampling.BICUBIC)
    ground = Image.new("RGB", (SIDE, SIDE), "#ffffff")
    ground.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(ground)


def _here(data: bytes) -> np.ndarray:
    (picture,) = scaling.scale([(data, "#ffffff")], side=SIDE, fit="pad")
    return np.frombuffer(picture, np.uint8).reshape(SIDE, SIDE, 3)


def _decode(data: bytes) -> np.ndarray:
    return images.decode(data, "#ffffff", max_pixels=10**8).pixels


def _times(works: list[Callable[[bytes], object]], files: list[bytes]) -> list[float]:
    """Milliseconds a file of each of ``works``, which take turns so that a busy machine is busy for all."""
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for number, work in enumerate(works):
            started = time.process_time()
            for data in files:
                work(data)
            best[number] = min(best[number], time.process_time() - started)
    return [seconds / len(files) * 1000 for seconds in best]


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other) ** 2)
    return 10 * np.log10(255**2 / error) if error else float("inf")


if __name__ == "__main__":
    main()
