"""The state of a training that was stopped, on disk: whole or not there, verified when read.

A file is called ``<images seen, 12 digits>-<first 16 digits of its SHA-256>.pt``, so that damage shows, and
holds only tensors and plain data: it is loaded with ``weights_only=True``.  The last two are kept.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from components import files

KEEP = 2
_log = logging.getLogger(__name__)


def save(folder: Path, images_seen: int, state: dict[str, Any]) -> Path:
    """Write ``state`` after ``images_seen`` images; drop all but the last :data:`KEEP`."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{images_seen:012d}{files.BESIDE}new"
    torch.save(state, temporary)
    files.sync(temporary)
    path = folder / f"{images_seen:012d}-{files.sha256(temporary)[:16]}.pt"
    temporary.replace(path)
    files.sync(folder)
    for old in _newest_first(folder)[KEEP:]:
        old.unlink()
    return path


def load(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest whole state in ``folder``, None when there is none; a damaged one is removed and said."""
    if not folder.is_dir():
        return None
    for left in folder.glob(f".*{files.BESIDE}*"):
        left.unlink()
    for path in _newest_first(folder):
        if files.sha256(path)[:16] == path.stem.split("-")[1]:
            return torch.load(path, map_location=device, weights_only=True)
        _log.warning("checkpoint %s is damaged: going back to the one before", path.name)
        path.unlink()
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("????????????-????????????????.pt"), reverse=True)
