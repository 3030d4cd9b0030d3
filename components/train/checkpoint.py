"""Checkpoints: the state of a training on disk, written whole or not at all and verified when read.

A file is called ``<images seen, 12 digits>-<first 16 hex digits of its SHA-256>.pt``, which shows whether it is
damaged, and holds only tensors and plain data: it is loaded with ``weights_only=True``.  That of a sharded training is
a folder, called by the SHA-256 of all ``NAME.sha256`` in it: the parts of each rank as safetensors, and :data:`REST`.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from components.base import files
from components.base.errors import UserError
from components.train.distributed import parts
from components.train.distributed.ranks import Group

REST = "rest.pt"
"""What a checkpoint in parts holds besides them."""

_SUM = ".sha256"
_ALONE = Group(0, 1, torch.device("cpu"))
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
    _prune(path, images_seen, keep, apart)
    return path


def save_parts(
    folder: Path, images_seen: int, state: dict[str, Any], group: Group, *, keep: int, apart: int = 0
) -> None:  # fmt: skip
    """As :func:`save`, of a ``state`` with sharded tensors: every rank of ``group`` calls it and writes its own."""
    temporary, first = folder / f".{images_seen:012d}{files.BESIDE}new", group.rank == 0
    if first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    group.wait()
    rest = parts.write(temporary, state)  # returns when all have written
    if first:
        torch.save(rest, temporary / REST)
    group.wait()
    for path in _share(temporary, group):
        files.sync(path)
        path.with_name(path.name + _SUM).write_text(files.sha256(path), "utf-8")
    group.wait()
    if first:
        for path in temporary.glob(f"*{_SUM}"):
            files.sync(path)
        files.sync(temporary)
        path = folder / f"{images_seen:012d}-{_digest(temporary)[:16]}"
        if path.is_dir():  # of a run that was killed right after it
            shutil.rmtree(temporary)
        else:
            temporary.replace(path)
        files.sync(folder)
        _prune(path, images_seen, keep, apart)
    group.wait()


def _share(folder: Path, group: Group) -> list[Path]:
    """The files of a checkpoint in parts that this rank looks after."""
    return sorted(path for path in folder.iterdir() if path.suffix != _SUM)[group.rank :: group.size]


def _digest(folder: Path) -> str:
    """The SHA-256 of what a checkpoint in parts says of its files."""
    lines = (path.name.encode() + b" " + path.read_bytes() + b"\n" for path in sorted(folder.glob(f"*{_SUM}")))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _prune(newest: Path, images_seen: int, keep: int, apart: int) -> None:
    """Remove the checkpoints that ``newest``, of ``images_seen``, replaces."""
    known = _newest_first(newest.parent)
    far = max((images for images in map(_images, known) if images_seen - images >= apart), default=0)
    for old in known[keep:]:
        if _images(old) < far:  # the one at ``far`` stays: a spike may have to go back to it
            _remove(old)
    for twin in known:  # parts of equal tensors differ in the order of what is said of them
        if _images(twin) == images_seen and twin != newest:
            _remove(twin)


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
    folder: Path, device: torch.device | str = "cpu", *, most: int | None = None, mapped: bool = False,
    group: Group = _ALONE, like: Callable[[dict[str, Any]], Any] = lambda saved: None,
) -> dict[str, Any] | None:  # fmt: skip
    """The newest undamaged state in ``folder``, of at most ``most`` images; None when there is none.

    ``mapped``: tensors on the CPU are read from the file when they are used, and keep it open.  Damaged checkpoints are
    removed with a warning.  All ranks of ``group`` call it, and get the same one.  Of what one in parts says without
    them, ``like`` makes the tree of tensors as which this rank's are cut (:func:`.parts.read`); None: all are whole.
    """
    path = _newest(folder, group, most)
    if path is None:
        return None
    whole = not path.is_dir()
    state: dict[str, Any] = torch.load(
        path if whole else path / REST, map_location=device, weights_only=True, mmap=mapped
    )  # fmt: skip
    return state if whole else parts.read(path, state, like(state))


def _newest(folder: Path, group: Group, most: int | None) -> Path | None:
    """The newest undamaged checkpoint; the ranks share the work of looking at it."""
    if group.rank == 0 and folder.is_dir():
        files.sweep(folder)
    group.wait()
    known = [path for path in _newest_first(folder) if most is None or _images(path) <= most]
    for path in [*known, None]:
        images = float(_images(path) if path else -1)
        if float(group.sum(torch.tensor([images], dtype=torch.float64))) != group.size * images:
            raise UserError(f"the ranks see different checkpoints in {folder}: it must be a shared folder")
        if path is None or not group.sum(torch.tensor([float(_damaged(path, group))])):
            return path
        if group.rank == 0:
            _log.warning("checkpoint %s is damaged: going back to the one before", path.name)
            _remove(path)
    raise AssertionError("None is the last")


def _damaged(path: Path, group: Group) -> bool:
    """Whether this rank's share of the checkpoint at ``path`` is not what was written."""
    wanted = path.stem.split("-")[1]
    if not path.is_dir():
        return group.rank == 0 and (files.sha256(path)[:16] != wanted or not _readable(path))
    if group.rank == 0 and (_digest(path)[:16] != wanted or not _readable(path / REST)):
        return True
    sums = sorted(path.glob(f"*{_SUM}"))[group.rank :: group.size]
    return any(
        not (part := each.with_suffix("")).is_file() or files.sha256(part).encode() != each.read_bytes()
        for each in sums
    )


def _readable(path: Path) -> bool:
    """Whether the file at ``path`` is one of torch's at all: a name may fit bytes that are none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError):
        return False


def forget(folder: Path, beyond: int) -> None:
    """Remove the checkpoints of more than ``beyond`` images."""
    for path in _newest_first(folder):
        if _images(path) > beyond:
            _remove(path)


def _images(path: Path) -> int:
    return int(path.name[:12])


def _newest_first(folder: Path) -> list[Path]:
    name = "????????????-????????????????"
    return sorted([*folder.glob(f"{name}.pt"), *folder.glob(name)], reverse=True)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    gone = path.with_name(f".{path.name}{files.BESIDE}gone")  # at once, so that no half of it is ever looked at
    path.replace(gone)
    shutil.rmtree(gone)
