"""What was found out about images, kept by content and rule, so that it is computed once.

A store is a folder of segments that never change: ``N`` keys of 32 bytes and ``N`` records of one numpy type.
It is no output: losing it costs time and nothing else, so outputs never depend on what it holds.  Two processes may
add at once (a segment is called by its content); a segment that is not whole is dropped, and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.base import algorithms as versions
from components.base import files
from components.base.algorithms import Algorithm

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

KEY = np.dtype("V32")
_MAGIC = b"stillroom facts 1\n"
_HEAD = len(_MAGIC) + 16  # magic, rows (8 bytes), CRC-32 of keys and records (8 bytes)
_MOST_SEGMENTS = 32  # small ones: then they become one
_SMALL = 16 * 2**20  # bytes of records; what is larger stays as it is, so that no more than 512 MiB are ever merged
_SOME = 65_536  # names made at a time
_MAPPED = 16 * 2**20  # bytes of a segment that are mapped at a time


def key(*parts: str) -> bytes:
    """32 bytes that name an image and whatever else its facts depend on, such as its matte."""
    return hashlib.sha256("|".join(parts).encode()).digest()


def keys(names: Sequence[bytes]) -> np.ndarray:
    """``names`` of 32 bytes each as an array of type KEY."""
    return np.frombuffer(b"".join(names), KEY)


def image_keys(contents: pa.ChunkedArray, mattes: pa.ChunkedArray) -> np.ndarray:
    """The names (type KEY) of images of these SHA-256 on these mattes: :func:`key` of each."""
    import pyarrow.compute as pc  # here: who measures and trains has no use for it

    named = np.empty(len(contents), KEY)
    for start in range(0, len(contents), _SOME):
        pairs = pc.binary_join_element_wise(contents.slice(start, _SOME), mattes.slice(start, _SOME), "|")
        found = [hashlib.sha256(pair).digest() for pair in pairs.cast("binary").to_pylist()]
        named[start : start + _SOME] = keys(found)
    return named


def rule(params: Mapping[str, object], *, algorithms: Sequence[Algorithm], dtype: np.dtype) -> str:
    """16 hex digits that change with ``params``, ``dtype`` and the versions of ``algorithms`` and their libraries."""
    deciding = [dict(params), dtype.descr, versions.digest(algorithms)]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Segment:
    """One file, which is mapped: what was looked at is let go of, lest a store of all pictures stays in memory."""

    start = 0
    """The position in the store of its first record."""

    def __init__(self, path: Path, mapped: mmap.mmap, rows: int, dtype: np.dtype) -> None:
        self.path, self._mapped = path, mapped
        blob = np.frombuffer(mapped, np.uint8)
        middle = _HEAD + rows * KEY.itemsize
        self.names, self.records = blob[_HEAD:middle].view(KEY), blob[middle:].view(dtype)

    def let_go(self) -> None:
        """Give back the memory of the pages that were looked at; the file still has them."""
        self._mapped.madvise(mmap.MADV_DONTNEED)


class _Index:
    """Where the names of some segments lie, by their first 8 bytes: two of a million names hardly ever share them."""

    def __init__(self, segments: Sequence[_Segment]) -> None:
        self.segments = list(segments)
        self._starts = np.cumsum([0, *(len(segment.names) for segment in segments)])
        heads = np.concatenate([_heads(segment.names) for segment in segments])
        order = np.argsort(heads, kind="stable")
        self._sorted = heads[order]
        self._order = order.astype(np.uint32 if len(order) < 2**32 else np.int64)
        ends = np.flatnonzero(self._sorted[1:] != self._sorted[:-1])
        self._longest = int(np.diff(np.concatenate([[-1], ends, [len(order) - 1]])).max())
        for segment in segments:
            segment.let_go()

    def candidates(self, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Positions in the store that may be those of ``wanted``, -1 for none: those of one head one after another."""
        heads = _heads(wanted)
        at = np.searchsorted(self._sorted, heads)
        shifts = np.array([segment.start for segment in self.segments]) - self._starts[:-1]
        for step in range(self._longest):
            place = np.minimum(at + step, len(self._sorted) - 1)
            row = self._order[place].astype(np.int64)
            row += shifts[np.searchsorted(self._starts, row, side="right") - 1]
            yield np.where(self._sorted[place] == heads, row, -1)


def _heads(names: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(names.view(np.uint64).reshape(-1, KEY.itemsize // 8)[:, 0])


class Store:
    """The facts of one kind by one rule: ``folder / kind / rule``; created when something is added."""

    def __init__(self, folder: Path, kind: str, rule: str, dtype: np.dtype) -> None:
        self._folder = folder / kind / rule
        self.dtype = np.dtype(dtype)
        self._segments: list[_Segment] = []
        if self._folder.is_dir():
            with contextlib.suppress(OSError):  # another user's, or a disk that cannot be written
                os.utime(self._folder)  # says when it was used last, for `stillroom gc`
            files.sweep(self._folder)
            for path in sorted(self._folder.glob("*.facts")):
                self._open(path)
        self._place()
        # One for all that is there, and one for each segment that comes: so what is new is sorted and not all again.
        self._indices = [_Index(self._segments)] if self._segments else []

    def __len__(self) -> int:
        return sum(len(segment.names) for segment in self._segments)

    @property
    def names(self) -> np.ndarray:
        """The keys of all facts, type KEY."""
        return np.concatenate([np.empty(0, KEY), *(segment.names for segment in self._segments)])

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """The position of each key of ``wanted`` (type KEY) in the store, int64, -1 where it is not known."""
        found = np.full(len(wanted), -1, np.int64)
        for index in self._indices:
            for place in index.candidates(wanted):
                some = np.flatnonzero((place >= 0) & (found < 0))
                there = np.empty(len(some), KEY)
                for segment, mine, rows in self._read(place[some], KEY.itemsize):
                    there[mine] = segment.names[rows]
                same = there == wanted[some]
                found[some[same]] = place[some[same]]
        return found

    def take(self, positions: np.ndarray) -> np.ndarray:
        """The records at ``positions`` (from ``find``, none of them -1)."""
        out = np.empty(len(positions), self.dtype)
        for segment, mine, rows in self._read(positions):
            out[mine] = segment.records[rows]
        return out

    def column(self, positions: np.ndarray, name: str, part: int | None = None) -> np.ndarray:
        """Field ``name``, or ``part`` of it, of each record at ``positions``: the rest of a record is not copied."""
        kind, shape = self.dtype[name].base, self.dtype[name].shape[0 if part is None else 1 :]
        out = np.empty((len(positions), *shape), kind)
        for segment, mine, rows in self._read(positions):
            values = segment.records[name] if part is None else segment.records[name][:, part]
            out[mine] = values[rows]
        return out

    def _read(self, positions: np.ndarray, size: int = 0) -> Iterator[tuple[_Segment, np.ndarray, np.ndarray]]:
        """For some of ``positions`` at a time their segment, their places in ``positions`` and in the segment.

        From the front to the back of each segment, so that few pages, of records or of ``size`` bytes, are mapped.
        """
        order = np.argsort(positions, kind="stable")
        ordered = positions[order]
        most = max(1, _MAPPED // (size or self.dtype.itemsize))
        edges = np.searchsorted(ordered, [*self._starts, len(self)]).tolist()
        for segment, low, end in zip(self._segments, edges, edges[1:], strict=False):
            at = low
            while at < end:
                after = int(np.searchsorted(ordered[at:end], ordered[at] + most)) + at
                yield segment, order[at:after], ordered[at:after] - segment.start
                at = after
                segment.let_go()

    def stream(self, positions: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """The records at ``positions``, in that order, at most ``most`` at a time; uncopied where they follow on."""
        follow = (np.diff(positions) == 1) & ~np.isin(positions[1:], self._starts)
        breaks = np.flatnonzero(~follow) + 1
        if len(breaks) * 16 > len(positions):
            for first in range(0, len(positions), most):
                yield self.take(positions[first : first + most])
            return
        for run in np.split(positions, breaks) if len(positions) else ():
            number = int(np.searchsorted(self._starts, run[0], side="right")) - 1
            first = int(run[0] - self._starts[number])
            for at in range(first, first + len(run), most):
                yield self._segments[number].records[at : min(at + most, first + len(run))]
                self._segments[number].let_go()

    def add(self, names: np.ndarray, records: np.ndarray) -> None:
        """Keep ``records`` under ``names`` (type KEY); what is known already is left as it is."""
        new = self.find(names) < 0
        _, first = np.unique(names.view("S32"), return_index=True)
        new &= np.isin(np.arange(len(names)), first)
        if not new.any():
            return
        self._open(self._write(names[new], np.ascontiguousarray(records[new], self.dtype)))
        self._place()
        self._indices.append(_Index(self._segments[-1:]))
        small = [number for number, segment in enumerate(self._segments) if segment.records.nbytes < _SMALL]
        if len(small) > _MOST_SEGMENTS:
            self._rewrite({tuple(small): None})

    def forget(self, names: np.ndarray) -> int:
        """Remove the facts of ``names`` from the disk; how many there were."""
        gone = self.find(names)
        gone = gone[gone >= 0]
        which = np.searchsorted(self._starts, gone, side="right") - 1
        if len(gone):
            self._rewrite({(n,): gone[which == n] - self._starts[n] for n in np.unique(which).tolist()})
        return len(gone)

    def _rewrite(self, groups: Mapping[tuple[int, ...], np.ndarray | None]) -> None:
        """Make one segment of each of ``groups``, without the rows that are named; the others are not looked at."""
        made, old = [], {number for numbers in groups for number in numbers}
        for numbers, gone in groups.items():
            segments = [self._segments[number] for number in numbers]
            names, records = (np.concatenate([getattr(segment, what) for segment in segments])
                              for what in ("names", "records"))  # fmt: skip
            if gone is not None:
                names, records = np.delete(names, gone), np.delete(records, gone)
            if len(names):
                made.append(self._write(names, records))
        left = {self._segments[number].path for number in old} - set(made)
        kept = [segment for number, segment in enumerate(self._segments) if number not in old]
        self._segments = list(kept)
        for path in made:
            self._open(path)
        for path in left:
            path.unlink(missing_ok=True)
        self._place()
        parts = [[segment for segment in index.segments if segment in kept] for index in self._indices]
        self._indices = [index if len(part) == len(index.segments) else _Index(part)
                         for index, part in zip(self._indices, parts, strict=True) if part]  # fmt: skip
        self._indices += [_Index([segment]) for segment in self._segments[len(kept) :]]

    def _write(self, names: np.ndarray, records: np.ndarray) -> Path:
        crc = zlib.crc32(records.view(np.uint8).reshape(-1).data, zlib.crc32(names.tobytes()))
        path = self._folder / f"{hashlib.sha256(names.tobytes()).hexdigest()[:24]}.facts"
        with files.replacing(path) as beside, beside.open("wb") as stream:
            stream.write(_MAGIC + len(names).to_bytes(8, "little") + crc.to_bytes(8, "little"))
            stream.write(names.tobytes())
            stream.write(records.view(np.uint8).reshape(-1).data)  # tofile does not say that the disk is full
        return path

    def _open(self, path: Path) -> None:
        rows = self._rows(path)
        if not rows:
            log.warning("%s: damaged; what it held is computed again", path.name)
            path.unlink(missing_ok=True)
            return
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._segments.append(_Segment(path, mapped, rows, self.dtype))

    def _rows(self, path: Path) -> int:
        """How many rows the segment at ``path`` has; 0 when it is not whole."""
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            rows, wanted = (int.from_bytes(head[at : at + 8], "little") for at in (len(_MAGIC), len(_MAGIC) + 8))
            size = _HEAD + rows * (KEY.itemsize + self.dtype.itemsize)
            if not head.startswith(_MAGIC) or path.stat().st_size != size:
                return 0
            crc = 0
            while block := stream.read(2**20):
                crc = zlib.crc32(block, crc)
        return rows if crc == wanted else 0

    def _place(self) -> None:
        """Note at which position each segment begins."""
        self._starts = np.cumsum([0, *(len(segment.names) for segment in self._segments)])[:-1]
        for segment, start in zip(self._segments, self._starts.tolist(), strict=True):
            segment.start = start


def keep_only(folder: Path, names: np.ndarray, *, beside: Collection[str] = ()) -> int:
    """Remove all facts but those of ``names``, whatever rule they were made by; how many there were.

    A fact's name tells neither the image nor the rule, so those of an image cannot be looked for: what an earlier
    matte, side or version left of it goes because it is of nothing that stays.  Kinds in ``beside`` stay whole: they
    show nothing of an image.  Files that are no whole segments, which a kill or an older version left, go too.
    """
    count = 0
    for rule in sorted(folder.glob("*/*/")):
        if rule.parent.name in beside:
            continue
        files.sweep(rule, whoever=True)
        for size in sorted({_record_bytes(path) for path in rule.glob("*.facts")} - {0}):
            store = Store(folder, rule.parent.name, rule.name, np.dtype(f"V{size}"))
            count += store.forget(np.unique(store.names[~np.isin(store.names.view("S32"), names.view("S32"))]))
        for path in rule.glob("*.facts"):
            if not _record_bytes(path):
                path.unlink()
        if not any(rule.iterdir()):
            rule.rmdir()
    return count


def _record_bytes(path: Path) -> int:
    """The size of each record of the segment at ``path``; 0 when it is none."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    rows = int.from_bytes(head[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if not head.startswith(_MAGIC) or not rows:
        return 0
    return max(0, (path.stat().st_size - _HEAD) // rows - KEY.itemsize)
