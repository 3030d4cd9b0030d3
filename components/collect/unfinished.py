"""What a killed collection had taken in already: its whole shards are kept, and the next one goes on behind them.

``.collecting.jsonl`` lies beside the downloads, outside of data/raw.  Its first line says what was being collected, as
a hash of all that decides what is in the shards.  Each other line names a shard that was whole by then, and every
image that had been taken in since the line before.  Another state of anything, and all is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import FileIO
from pathlib import Path

from components.collect.index import Location
from components.samples import shards

NAME = ".collecting.jsonl"
"""The file's name; no source's name begins with a dot."""
FORMAT = 1


def identity(*what: object) -> str:
    """A hash of ``what`` decides what is in the shards, and of how they are cut."""
    values = [FORMAT, shards.SHARD_BYTES, shards.ROW_GROUP_BYTES, *what]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Unfinished:
    """The shards of a killed collection of the same things, and what this one adds to them."""

    def __init__(self, path: Path, raw: Path, *, of: str, first: int) -> None:
        """``of``: the identity; ``first``: the number of the first shard that the index does not name."""
        self._path, self._raw = path, raw
        self.shards: list[str] = []
        self.taken: dict[tuple[str, str], tuple[str, int]] = {}
        """SHA-256 and size in bytes of what was taken in, by the names of source and image."""
        self.locations: dict[str, Location] = {}
        """Where the bytes of each image in ``shards`` lie, by SHA-256."""
        self._new: list[tuple[str, str, str, int, str, int]] = []
        self._of, self._good = of, self._load(of, first)
        self._journal: FileIO | None = None

    def took(self, source: str, key: str, sha256: str, size: int, location: Location) -> None:
        """The image ``key`` of ``source`` was taken in; the shard of its ``location`` need not be whole yet."""
        self._new.append((source, key, sha256, size, *location))

    def keep(self, whole: list[str]) -> None:
        """The shards ``whole`` are on the disk, and with them all that was taken in until now; empties the list."""
        while whole:
            name = whole.pop(0)
            self._write({"shard": name, "bytes": (self._raw / name).stat().st_size, "taken": self._new})
            self._new = []

    def close(self) -> None:
        """Leave the file for the next collection."""
        if self._journal is not None:
            self._journal.close()

    def clear(self) -> None:
        """All is in the index: remove the file."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _load(self, of: str, first: int) -> int:
        """Read what fits; how many bytes of the file did."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except OSError:
            return 0
        good = 0
        for line in lines:
            try:
                record = json.loads(line)
                if not line.endswith(b"\n") or (not good and record != {"of": of}):
                    break
                if good:
                    self._add(record, shards.shard_name(first + len(self.shards)))
            except (ValueError, KeyError, TypeError, OSError):
                break  # cut off or damaged: what follows is read from the sources again
            good += len(line)
        return good

    def _add(self, record: dict, wanted: str) -> None:
        name = record["shard"]
        if name != wanted or (self._raw / name).stat().st_size != record["bytes"]:
            raise ValueError("not the shard that was written")
        taken = [(str(source), str(key), str(sha256), int(size), (str(shard), int(row)))
                 for source, key, sha256, size, shard, row in record["taken"]]  # fmt: skip
        self.shards.append(name)
        for source, key, sha256, size, location in taken:
            self.taken[source, key] = sha256, size
            self.locations[sha256] = location

    def _write(self, record: dict) -> None:
        if self._journal is None:  # the first shard of this collection
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._journal = self._path.open("ab", buffering=0)
            self._journal.truncate(self._good)
            if not self._good:
                self._write({"of": self._of})
        left = memoryview(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        while left:  # one call writes as much as there is room for
            left = left[self._journal.write(left) :]
        os.fsync(self._journal.fileno())
