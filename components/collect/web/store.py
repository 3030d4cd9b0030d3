"""The downloads of a list of URLs: a journal that only grows, and the bytes in a few large packs.

``journal.jsonl`` holds the last result of each key: the location of its bytes, or why there are none.
``pack-NNNNN.bin`` holds the bytes, equal ones once.  Bytes are written before their line: after a kill every line has
its bytes, and a line that is cut off is dropped; one that is damaged costs its URL alone.  After a power cut the disk
may hold a line without its bytes: when the store is opened, the lines after the last ``{"synced": true}`` are checked
against their SHA-256.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from io import RawIOBase
from pathlib import Path

from components.base import files
from components.base.errors import UserError

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
_FORMAT = {"format": 1}
_SYNCED = {"synced": True}
_PACK_BYTES = 2**28  # then a new pack is begun
_SYNC_SECONDS = 2.0
_WITHDRAWN = "withdrawn"
_FEW_LINES = 1000  # not worth writing anew


@dataclass(frozen=True, slots=True)
class Entry:
    """The result of a URL: SHA-256, size in bytes and location of its bytes; with ``sha256`` '' why there are none."""

    sha256: str = ""
    size: int = 0
    pack: int = 0
    offset: int = 0
    reason: str = ""
    detail: str = ""
    asked: int = 0
    """When it was asked for last in vain, in milliseconds since 1970; 0: never, or it is not known."""
    final: str = ""
    """Where redirects led, if they led elsewhere; without secrets."""
    kind: str = ""
    modified: str = ""
    etag: str = ""
    """What the server said of the image: Content-Type, Last-Modified, ETag."""


_NOTHING = Entry()
_NAMES = tuple(field.name for field in fields(Entry))


class Store:
    """A store, open for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self._doubtful: list[str] = []
        """Keys written after the last sync."""
        self._lines = 0
        self._bad = 0
        """Lines of the journal that cannot be read."""
        self._good = self._load()
        """Bytes of the journal that are whole lines, readable or not."""

    def read(self, entry: Entry) -> bytes | None:
        """The bytes of ``entry``; None when their hash is wrong (a damaged disk)."""
        try:
            with self._pack(entry.pack).open("rb") as stream:
                stream.seek(entry.offset)
                data = stream.read(entry.size)
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == entry.sha256 else None

    def _load(self) -> int:
        try:
            blob = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return 0
        good = 0
        for line in re.findall(rb"[^\n]*\n|[^\n]+", blob):
            if not line.endswith(b"\n"):
                break  # its writer was killed
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError):
                self._bad += 1
            good += len(line)
            self._lines += 1
        if self._bad:
            log.warning("%s: %d damaged lines; what they said is fetched again", JOURNAL, self._bad)
        return good

    def _take(self, record: dict) -> None:
        if record == _FORMAT:
            return
        if record == _SYNCED:
            self._doubtful.clear()
            return
        if not isinstance(record, dict) or not isinstance(record.get("key"), str):
            raise ValueError("no entry")
        key = record.pop("key")
        entry = Entry(**record)
        if any(type(value) is not type(getattr(_NOTHING, name)) for name, value in record.items()):
            raise ValueError("values of another type")
        self.entries[key] = entry
        self._doubtful.append(key)

    def _pack(self, number: int) -> Path:
        return self.folder / f"pack-{number:05d}.bin"


class Writer(Store):
    """A store, open for adding; a second one in another process is refused."""

    def __init__(self, folder: Path, *, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(f"source {name}: another process is fetching it now: wait until that one ends") from None
        super().__init__(folder)
        entries = {key: self.entries[key] for key in self._doubtful if self.entries[key].sha256}
        lost = [key for key, entry in entries.items() if self.read(entry) is None]
        there = [entry for key, entry in self.entries.items() if entry.sha256 and key not in lost]
        self._locations = {entry.sha256: (entry.pack, entry.offset) for entry in there}
        self._open_journal()
        self._stream: RawIOBase | None = None
        self._end = 0
        self._number = max((int(path.stem[5:]) for path in folder.glob("pack-*.bin")), default=0)
        self._synced = time.monotonic()
        self.forget(lost)
        self._finish_erasing()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._sync()
        finally:
            for stream in filter(None, (self._stream, self._journal)):
                stream.close()
            os.close(self._lock)

    def put(
        self, key: str, data: bytes, *, final: str = "", kind: str = "", modified: str = "", etag: str = ""
    ) -> None:
        """Keep ``data`` as the result of ``key``, and what was said of it (see Entry)."""
        sha256 = hashlib.sha256(data).hexdigest()
        location = self._locations.get(sha256)
        if location is None:
            stream = self._room(len(data))
            location = self._number, self._end
            _write(stream, data)
            self._end += len(data)
            self._locations[sha256] = location
        self._add(key, Entry(sha256, len(data), *location, final=final, kind=kind, modified=modified, etag=etag))

    def fail(self, key: str, reason: str, detail: str, *, asked: int = 0, passing: bool = False) -> None:
        """Keep why ``key`` has no image; writes nothing when that is known.

        With ``passing``, as of a server that is busy, an earlier failure stays what is said of it: a link that fails
        in one way today and in another tomorrow makes no new state of the data.
        """
        old = self.entries.get(key)
        if passing and old is not None and not old.sha256 and old.reason not in ("damaged", _WITHDRAWN):
            reason, detail = old.reason, old.detail
        entry = Entry(reason=reason, detail=detail, asked=asked)
        if self.entries.get(key) != entry:
            self._add(key, entry)

    def forget(self, keys: Iterable[str]) -> None:
        """Have ``keys`` fetched again."""
        for key in keys:
            self.fail(key, "damaged", "its bytes were damaged on the disk")

    def erase(self, sha256s: Iterable[str]) -> int:
        """Overwrite the bytes of the images ``sha256s`` with zeros, and keep their keys; how many there were."""
        wanted = set(sha256s)
        gone = {key: entry for key, entry in self.entries.items() if entry.sha256 in wanted}
        for key, entry in gone.items():
            self._add(key, replace(entry, sha256="", reason=_WITHDRAWN, detail=f"withdrawn by hand: {entry.sha256}"))
            self._locations.pop(entry.sha256, None)
        self._finish_erasing()
        return len(gone)

    def _finish_erasing(self) -> None:
        """Zero the bytes of withdrawn entries that still have a location, then remove the location."""
        left = {key: entry for key, entry in self.entries.items() if entry.reason == _WITHDRAWN and entry.size}
        if not left:
            return
        self._sync()  # after a kill from here on the next writer finishes this
        for entry in left.values():
            with self._pack(entry.pack).open("r+b", buffering=0) as stream:
                stream.seek(entry.offset)
                _write(stream, bytes(entry.size))
                os.fsync(stream.fileno())
        for key, entry in left.items():
            self._add(key, Entry(reason=entry.reason, detail=entry.detail))

    def _open_journal(self) -> None:
        """Open the journal behind its last whole line; rewrite it when most of its lines are out of date."""
        path = self.folder / JOURNAL
        if self._bad or (self._lines > 4 * len(self.entries) + _FEW_LINES and not self._doubtful):
            late = dict.fromkeys(self._doubtful)
            sure = [_entry_line(*each) for each in self.entries.items() if each[0] not in late]
            doubtful = [_entry_line(key, self.entries[key]) for key in late]
            with files.replacing(path) as beside, beside.open("wb") as stream:
                stream.writelines([_line(_FORMAT), *sure, _line(_SYNCED), *doubtful])
            self._good = path.stat().st_size
        self._journal = path.open("ab", buffering=0)  # unbuffered: a kill loses nothing
        self._journal.truncate(self._good)
        if not self._good:
            _write(self._journal, _line(_FORMAT))

    def _add(self, key: str, entry: Entry) -> None:
        self.entries[key] = entry
        self._doubtful.append(key)
        _write(self._journal, _entry_line(key, entry))
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def _room(self, size: int) -> RawIOBase:
        """The pack that the next ``size`` bytes go to, standing at its end."""
        while True:
            if self._stream is None:
                self._stream = self._pack(self._number).open("ab", buffering=0)
                self._end = self._stream.tell()
                files.sync(self.folder)
            if not self._end or self._end + size <= _PACK_BYTES:
                return self._stream
            self._sync()
            self._stream.close()
            self._stream, self._number = None, self._number + 1

    def _sync(self) -> None:
        if self._doubtful:
            if self._stream is not None:
                os.fsync(self._stream.fileno())
            _write(self._journal, _line(_SYNCED))
            os.fsync(self._journal.fileno())
            self._doubtful.clear()
        self._synced = time.monotonic()


def _entry_line(key: str, entry: Entry) -> bytes:
    return _line({"key": key, **{name: value for name in _NAMES if (value := getattr(entry, name))}})


def _write(stream: RawIOBase, data: bytes) -> None:
    """Hand all of ``data`` to the kernel: one call writes as much as there is room for, at most 2 GiB."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def _line(record: dict) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
