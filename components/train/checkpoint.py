"""Checkpoints: the state of a training on disk, written whole or not at all and verified when read.

A file is called ``<images seen, 12 digits>-<first 16 hex digits of its SHA-256>.pt``, which shows whether it is
damaged, and holds only tensors and plain data: it is loaded with ``weights_only=True``.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from components.base import files

_log = logging.getLogger(__name__)


def save(folder: Path, images_seen: int, state: dict[str, Any], *, keep: int, apart: int = 0) -> Path:
    """Write ``state`` after ``images_seen`` images and return its path.

    Older checkpoints are removed but for the last ``keep`` and the newest that is ``apart`` images or more behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{images_seen:012d}{files.BESIDE}new"
    torch.save(state, temporary)
    files.sync(temporary)
    path = folder / f"{images_seen:012d}-{files.sha256(temporary)[:16]}.pt"
    temporary.replace(path)
    files.sync(folder)
    far = max((images for images in map(_images, _newest_first(folder)) if images_seen - images >= apart), default=0)
    for old in _newest_first(folder)[keep:]:
        if _images(old) < far:  # the one at ``far`` stays: a spike may have to go back to it
            old.unlink()
    return path


class Pause:
    """The time between two checkpoints: as a context it times the saving of one.

    Where it ``counts``, checkpoints take at most a twentieth of the time.  It does for a GPU, to whose speed a number
    of images says little, and for one rank: several would have to agree, and their clocks differ.
    """

    def __init__(self, counts: bool) -> None:
        self._counts = counts
        self._began, self._until = 0.0, 0.0

    def over(self) -> bool:
        """Whether another one may be saved."""
        return not self._counts or time.monotonic() >= self._until

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._until = now + 19 * (now - self._began)


def load(
    folder: Path, device: torch.device | str = "cpu", *, most: int | None = None, mapped: bool = False
) -> dict[str, Any] | None:
    """The newest undamaged state in ``folder``, of at most ``most`` images; None when there is none.

    ``mapped``: tensors on the CPU are read from the file when they are used, and keep it open.  Damaged checkpoints are
    removed with a warning.
    """
    if not folder.is_dir():
        return None
    for left in folder.glob(f".*{files.BESIDE}*"):
        left.unlink()
    for path in _newest_first(folder):
        if most is not None and _images(path) > most:
            continue
        if files.sha256(path)[:16] == path.stem.split("-")[1]:
            return torch.load(path, map_location=device, weights_only=True, mmap=mapped)
        _log.warning("checkpoint %s is damaged: going back to the one before", path.name)
        path.unlink()
    return None


def forget(folder: Path, beyond: int) -> None:
    """Remove the checkpoints of more than ``beyond`` images."""
    for path in _newest_first(folder):
        if _images(path) > beyond:
            path.unlink()


def _images(path: Path) -> int:
    return int(path.name[:12])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("????????????-????????????????.pt"), reverse=True)
