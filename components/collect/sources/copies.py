"""Copies of objects of a store, so that what is listed, surveyed and then read is fetched once.

They lie in the scratch folder of stage ``collect``, from the look that found them until the stage has read them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from io import BufferedReader
from pathlib import Path

from components.base import files
from components.collect.sources.source import File

SUFFIX = ".object"


class Copied:
    """``file`` of a store, copied to ``folder`` when it is opened first and read there."""

    def __init__(self, file: File, folder: Path) -> None:
        self._file = file
        self.name, self.size, self.state, self.mark = file.name, file.size, file.state, file.mark
        state = json.dumps([str(file), list(file.state or ())])
        self._path = folder / f"{hashlib.sha256(state.encode()).hexdigest()[:32]}{SUFFIX}"
        self._fresh = file.state is not None
        """Whether a copy that is there is one of what the store holds now, which its mark tells."""

    def __str__(self) -> str:
        return str(self._file)

    def open(self) -> BufferedReader:
        """A seekable stream of its bytes."""
        if not (self._fresh and self._path.exists()):
            with files.replacing(self._path) as beside, beside.open("wb") as copy, self._file.open() as stream:
                shutil.copyfileobj(stream, copy, 2**20)
            self._fresh = True
        return self._path.open("rb")

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open() as stream:
            return stream.read()


def clear(scratch: Path) -> None:
    """Remove all copies from the folders of the sources below ``scratch``, whole ones and what a kill left."""
    for folder in sorted(scratch.glob("*/")):
        for path in [*folder.glob(f"*{SUFFIX}"), *folder.glob(f".*{SUFFIX}{files.BESIDE}*")]:
            path.unlink(missing_ok=True)
