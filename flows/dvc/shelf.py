"""Shelf: the folder ``stillroom/`` of a DVC remote, beside DVC's own files, which DVC neither reads nor clears.

What is not an output lies here for other machines: records of stages that a worker ran, its checkpoints, signs of life.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base.errors import UserError, brief

FOLDER = "stillroom"
_STORES = {"s3", "gs", "gcs", "azure", "abfs", "oss"}
"""Where a file appears whole or not at all by itself, and a rename is a copy."""


class RemoteGone(UserError):
    """The remote does not answer, or answers that it is broken: a later try may go well."""


class Shelf:
    """Files by name (``results/train/KEY.json``); each call raises RemoteGone when the remote does not answer."""

    def __init__(self, remote: Any) -> None:
        self.name = str(remote.name)
        self._fs = remote.fs
        self._root = self._fs.join(remote.path, FOLDER)

    def read(self, name: str, most: int = 1 << 20) -> bytes | None:
        """What ``name`` holds, None when there is no such file; UserError beyond ``most`` bytes."""
        with self._asked(name):
            try:
                with self._fs.fs.open(self._at(name), "rb", cache_type="none") as stream:
                    found = stream.read(most + 1)
            except FileNotFoundError:
                return None
        if len(found) > most:
            raise UserError(f"remote '{self.name}': {FOLDER}/{name}: more than {most:,} bytes: remove it")
        return bytes(found)

    def write(self, name: str, content: bytes) -> None:
        """Have ``name`` hold ``content``, whole or not at all."""
        with self._asked(name), self._beside(name) as place:
            self._fs.fs.pipe_file(place, content)

    def send(self, source: Path, name: str) -> None:
        """Copy the file ``source``; FileNotFoundError when it is not there any more."""
        source.stat()
        with self._asked(name), self._beside(name) as place:
            self._fs.fs.put_file(str(source), place)

    def fetch(self, name: str, target: Path) -> None:
        """Copy the file ``name`` to ``target``."""
        with self._asked(name):
            self._fs.fs.get_file(self._at(name), str(target))

    def names(self, folder: str) -> set[str]:
        """The files below ``folder``, by their names below it."""
        above = self._at(folder)
        with self._asked(folder):
            self._fs.fs.invalidate_cache()
            try:
                found = {self._fs.relpath(path, above).replace("\\", "/") for path in self._fs.find(above)}
            except FileNotFoundError:
                found = set()
        return {name for name in found if not name.rpartition("/")[2].startswith(".")}

    def remove(self, name: str) -> None:
        """Remove the file ``name``; nothing happens when there is none."""
        with self._asked(name), contextlib.suppress(FileNotFoundError):
            self._fs.fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return str(self._fs.join(self._root, *name.split("/")))

    @contextlib.contextmanager
    def _beside(self, name: str) -> Iterator[str]:
        """Where to write what will be ``name``."""
        target = self._at(name)
        protocol = self._fs.protocol
        if _STORES & {protocol} if isinstance(protocol, str) else _STORES & set(protocol):
            yield target
            return
        above, last = self._fs.parent(target), self._fs.name(target)
        self._fs.makedirs(above, exist_ok=True)
        beside = self._fs.join(above, f".{last}.{secrets.token_hex(4)}")
        yield beside
        self._fs.fs.mv(beside, target)

    @contextlib.contextmanager
    def _asked(self, name: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each kind of remote has its own
            raise RemoteGone(f"DVC's remote '{self.name}', {FOLDER}/{name}: {brief(error)}") from error
