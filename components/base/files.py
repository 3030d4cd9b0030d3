"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base.errors import UserError, brief

BESIDE = ".beside-"
"""Part of the name of a file or folder that is still being written; after a crash it can be deleted."""
_WRITER = re.compile(re.escape(BESIDE) + r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
_OLD = 86_400.0  # seconds after which nobody on another machine is still writing


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write a file to; sync and rename it over ``path`` at the end.

    On any exception ``path`` is as it was and the file beside it is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    beside = beside_of(path)
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; at the end it replaces ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    beside = beside_of(path)
    beside.mkdir()
    try:
        yield beside
        for folder, _, names in os.walk(beside):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        if path.exists():  # rename(2) does not replace a folder that holds something
            old = beside_of(path)
            os.replace(path, old)
            os.replace(beside, path)
            shutil.rmtree(old)
        else:
            os.replace(beside, path)
        sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path, advice: str, *, most: int | None = None) -> Any:
    """What the JSON file at ``path`` holds; UserError that ends in ``advice`` when it is missing or damaged.

    ``most``: the largest size in bytes that is read; None: any.
    """
    try:
        if most is not None and path.stat().st_size > most:
            raise ValueError(f"more than {most:,} bytes")
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing: {advice}") from None
    except (OSError, ValueError, RecursionError) as error:  # brackets in brackets, 1,000 deep
        raise UserError(f"{path}: cannot be read ({brief(error)}): {advice}") from None


def read_json_object(path: Path, advice: str, *, most: int | None = None) -> dict[str, Any]:
    """As :func:`read_json`, for a file that has to hold a JSON object; UserError also when it holds something else."""
    found = read_json(path, advice, most=most)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds {type(found).__name__}, wanted an object: {advice}")
    return found


def sweep(folder: Path, name: str = "", *, whoever: bool = False) -> None:
    """Remove what a killed run left beside ``folder / name`` (or beside anything in ``folder``).

    What another process is writing stays, unless with ``whoever``: on this machine while that process lives, on
    another one that shares the folder for a day.
    """
    begin, left = f".{name}{BESIDE}" if name else ".", []
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name.startswith(begin) and BESIDE in entry.name]
    for entry in sorted(left, key=lambda entry: entry.name):
        with contextlib.suppress(FileNotFoundError):  # its writer has ended meanwhile
            if whoever or not _being_written(entry):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


def _being_written(entry: os.DirEntry[str]) -> bool:
    found = _WRITER.search(entry.name)
    if found is None:
        return False
    if found[1] != _here():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < _OLD
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@functools.cache
def _here() -> str:
    """8 hex digits that tell this machine, and this container, from others: those in which a process has its number."""
    try:
        numbered = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbered = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbered}".encode()).hexdigest()[:8]


def sync(path: Path) -> None:
    """Wait until the kernel has written ``path``, a file or a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file at ``path``, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def beside_of(path: Path) -> Path:
    """A new name beside ``path`` for what is still being written; ``sweep`` removes it once this process is gone."""
    return path.with_name(f".{path.name}{BESIDE}{_here()}-{os.getpid()}-{secrets.token_hex(4)}")
