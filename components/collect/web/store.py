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
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple

from components.base import files
from components.base.errors import UserError

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
_FORMAT = {"format": 1}
_SYNCED = {"synced": True}
_PACK_BYTES = 2**28  # then a new pack is begun
_OFFSET_BITS = 40  # of a location as one number; a pack holds an image more than _PACK_BYTES at most
_SYNC_SECONDS = 2.0
_WITHDRAWN = "withdrawn"
_FEW_LINES = 1000  # not worth writing anew
_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError, struct.error)


class Entry(NamedTuple):
    """The result of a URL: SHA-256, size in bytes and location of its bytes; with ``sha256`` '' why there are none."""

    sha256: str = ""
    size: int = 0
    pack: int = 0
    offset: int = 0
    reason: str = ""
    detail: str = ""
    asked: int = 0
    """When it was asked for last in vain, in milliseconds since 1970; 0: never, or it is not known."""


_NOTHING = Entry()
_NAMES = Entry._fields
_SAID = ("final", "kind", "modified", "etag")
"""What a line may say beside an Entry: where redirects led, Content-Type, Last-Modified, ETag; not kept in memory."""
_PACKED = struct.Struct("32sqiq")  # SHA-256, size, pack, offset


class Entries(MutableMapping[str, Entry]):
    """The last result of each key; one that has bytes takes 85 bytes of memory, without its key."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes | Entry] = {}

    def __getitem__(self, key: str) -> Entry:
        found = self._packed[key]
        if isinstance(found, Entry):
            return found
        sha256, *location = _PACKED.unpack(found)
        return Entry(sha256.hex(), *location)

    def __setitem__(self, key: str, entry: Entry) -> None:
        plain = entry.sha256 and entry == Entry(entry.sha256, entry.size, entry.pack, entry.offset)
        self._packed[key] = (
            _PACKED.pack(bytes.fromhex(entry.sha256), entry.size, entry.pack, entry.offset) if plain else entry
        )

    def __delitem__(self, key: str) -> None:
        del self._packed[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Store:
    """A store, open for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = Entries()
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
        good = 0
        for line in self._whole_lines():
            try:
                self._take(json.loads(line))
            except _UNREADABLE:
                self._bad += 1
            good += len(line)
            self._lines += 1
        if self._bad:
            log.warning("%s: %d damaged lines; what they said is fetched again", JOURNAL, self._bad)
        return good

    def _whole_lines(self) -> Iterator[bytes]:
        try:
            with (self.folder / JOURNAL).open("rb") as stream:
                yield from (line for line in stream if line.endswith(b"\n"))  # else its writer was killed
        except FileNotFoundError:
            return

    def _keyed(self) -> Iterator[tuple[str, bytes]]:
        """Key and line of each entry in the journal, without lines that cannot be read."""
        for line in self._whole_lines():
            try:
                key, _ = _parsed(json.loads(line))
            except _UNREADABLE:
                continue
            yield key, line

    def _take(self, record: dict) -> None:
        if record == _FORMAT:
            return
        if record == _SYNCED:
            self._doubtful.clear()
            return
        key, entry = _parsed(record)
        self.entries[key] = entry
        self._doubtful.append(key)

    def _pack(self, number: int) -> Path:
        return self.folder / f"pack-{number:05d}.bin"


class Writer(Store):
    """A store, open for adding; a second one in another process is refused.

    It keeps no bytes of the images ``gone`` (their SHA-256), wherever they come from.
    """

    def __init__(self, folder: Path, *, name: str, gone: Collection[str] = ()) -> None:
        self._gone = frozenset(gone)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(f"source {name}: another process is fetching it now: wait until that one ends") from None
        super().__init__(folder)
        entries = {key: self.entries[key] for key in self._doubtful if self.entries[key].sha256}
        lost = {key for key, entry in entries.items() if self.read(entry) is None}
        # By half of the hash, and a location as one number: a third of the memory.
        self._locations = {
            _short(entry.sha256): entry.pack << _OFFSET_BITS | entry.offset
            for key, entry in self.entries.items()
            if entry.sha256 and key not in lost
        }
        self._open_journal()
        self._stream: RawIOBase | None = None
        self._end = 0
        self._number = max((int(path.stem[5:]) for path in folder.glob("pack-*.bin")), default=0)
        self._synced = time.monotonic()
        self.forget(sorted(lost))
        self.erase(self._gone)  # also finishes an erasure that was killed

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._locations.clear()  # who reads on needs only the entries
        try:
            self._sync()
        finally:
            for stream in filter(None, (self._stream, self._journal)):
                stream.close()
            os.close(self._lock)

    def put(self, key: str, data: bytes, said: Mapping[str, str] | None = None) -> None:
        """Keep ``data`` as the result of ``key``; the journal keeps what was ``said`` of it, by the names in _SAID."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in self._gone:
            self.fail(key, *_withdrawn(sha256))
            return
        location = self._locations.get(_short(sha256))
        if location is None:
            stream = self._room(len(data))
            location = self._number << _OFFSET_BITS | self._end
            _write(stream, data)
            self._end += len(data)
            self._locations[_short(sha256)] = location
        pack, offset = location >> _OFFSET_BITS, location & (1 << _OFFSET_BITS) - 1
        self._add(key, Entry(sha256, len(data), pack, offset), said)

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
        gone = {key: entry for key, entry in self.entries.items() if entry.sha256 in wanted} if wanted else {}
        for key, entry in gone.items():
            reason, detail = _withdrawn(entry.sha256)
            self._add(key, entry._replace(sha256="", reason=reason, detail=detail))
            self._locations.pop(_short(entry.sha256), None)
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
            late, last = set(self._doubtful), {key: at for at, (key, _) in enumerate(self._keyed())}
            with files.replacing(path) as beside, beside.open("wb") as stream:
                stream.write(_line(_FORMAT))
                for doubtful in (False, True):
                    stream.write(_line(_SYNCED) if doubtful else b"")
                    lines = ((at, *each) for at, each in enumerate(self._keyed()))
                    stream.writelines(line for at, key, line in lines if last[key] == at and (key in late) is doubtful)
            self._good = path.stat().st_size
        self._journal = path.open("ab", buffering=0)  # unbuffered: a kill loses nothing
        self._journal.truncate(self._good)
        if not self._good:
            _write(self._journal, _line(_FORMAT))

    def _add(self, key: str, entry: Entry, said: Mapping[str, str] | None = None) -> None:
        self.entries[key] = entry
        self._doubtful.append(key)
        _write(self._journal, _entry_line(key, entry, said))
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


def _short(sha256: str) -> bytes:
    """Half of a hash, for a table of many: nobody finds two images that share it."""
    return bytes.fromhex(sha256[:32])


def _withdrawn(sha256: str) -> tuple[str, str]:
    return _WITHDRAWN, f"withdrawn by hand: {sha256}"


def _parsed(record: dict) -> tuple[str, Entry]:
    """The key and the entry in a line of the journal; raises one of _UNREADABLE when there are none."""
    key, values = record["key"], {name: value for name, value in record.items() if name not in ("key", *_SAID)}
    known = all(type(value) is type(getattr(_NOTHING, name, None)) for name, value in values.items())
    if not isinstance(key, str) or not known or len(record.get("sha256", "")) not in (0, 64):
        raise ValueError("no entry")
    return key, Entry(**values)


def _entry_line(key: str, entry: Entry, said: Mapping[str, str] | None = None) -> bytes:
    values = {name: value for name in _NAMES if (value := getattr(entry, name))}
    return _line({"key": key, **values, **{name: value for name, value in (said or {}).items() if value}})


def _write(stream: RawIOBase, data: bytes) -> None:
    """Hand all of ``data`` to the kernel: one call writes as much as there is room for, at most 2 GiB."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def _line(record: dict) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
