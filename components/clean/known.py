"""What is known of the images of an index: decoded once for each content and matte, and kept as facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.base import grouping, parallel, workers
from components.base.algorithms import Algorithm
from components.base.events import Progress
from components.clean import embedding, fingerprints, keypoints, rough, windows
from components.decode import images
from components.embed import vectors
from components.samples import facts, shards

Item = tuple[bytes, str]
"""An image file and its matte."""
_SPLIT = [name for name in fingerprints.FACTS.names or () if name != "thumb"]
DETAILS = np.dtype([(name, fingerprints.FACTS[name]) for name in _SPLIT])
JUDGED = np.dtype([(name, DETAILS[name]) for name in _SPLIT if name != "detail"])
THUMB = np.dtype([("thumb", fingerprints.FACTS["thumb"])])
GREY = np.dtype([("grey", "<u2", (fingerprints.SIDE // 2,) * 2)])
_QUARTERS = 4  # the means of four whole numbers are whole numbers of quarters
_ADDED = 4096  # images after which what was found out is kept, whatever happens then
_SOME = 65_536  # rows that are looked up or located at a time


class Known:
    """The facts of each row of an index, by position in it.

    ``details`` (N,) has JUDGED, and ``words`` the DETAILS' detail of those that have one; the details of a row whose
    bytes are gone are the caller's to fill in.  ``keys`` are the names of content and matte under which facts are kept.
    All else stays in the stores, of which a part is in memory at a time.
    """

    def __init__(self, index: pa.Table, *, raw: Path, folder: Path, max_pixels: int) -> None:
        self._raw, self._folder = raw, folder
        self._index = index
        self.keys = facts.image_keys(index["sha256"], index["matte"])
        self.stored = np.asarray(index["row"].to_numpy()) >= 0
        names, prints, corners = {"max_pixels": max_pixels}, [fingerprints.ALGORITHM], [keypoints.ALGORITHM]
        self._details = self._store("image", DETAILS, names, prints)
        self._thumbs = self._store("thumb", THUMB, names, prints)
        self._windows = self._store("windows", windows.RECORD, {}, [windows.ALGORITHM])
        self._corners = self._store("corners", keypoints.FEATURES, {}, corners)
        self.details, self.words = np.zeros(len(index), JUDGED), dict[int, str]()
        undecided = self._examine(partial(fingerprints.examine, max_pixels=max_pixels))
        for start in range(0, len(index), _SOME):
            some = start + np.flatnonzero(self.stored[start : start + _SOME])
            at = self._details.find(self.keys[some])
            self._fill(some[at >= 0], self._details.take(at[at >= 0]))
            for position in some[at < 0].tolist():
                self._fill(np.array([position]), undecided[bytes(self.keys[position])].reshape(1))

    def _fill(self, positions: np.ndarray, found: np.ndarray) -> None:
        for name in JUDGED.names or ():
            self.details[name][positions] = found[name]
        said = np.flatnonzero(found["reason"] != b"")
        self.words |= {int(positions[at]): found["detail"][at].decode() for at in said.tolist()}

    def thumbs(self, positions: np.ndarray) -> np.ndarray:
        """The thumbnails at ``positions``, uint8 (N, 32, 32, 3); black where the bytes are gone."""
        at = self._thumbs.find(self.keys[positions])
        out = np.zeros((len(positions), *fingerprints.FACTS["thumb"].shape), np.uint8)
        out[at >= 0] = self._thumbs.take(at[at >= 0])["thumb"]
        return out

    def searched(self, positions: np.ndarray) -> np.ndarray:
        """The place, int64 (N,), of the windows of each of ``positions``, found now where they are not known.

        -1 for what is not searched for by windows: drawings, and what has no bytes any more.
        """
        store = self._windows
        missing = self._first(positions[self.stored[positions] & (store.find(self.keys[positions]) < 0)])
        for start in range(0, len(missing), _ADDED):
            some = missing[start : start + _ADDED]
            store.add(self.keys[some], windows.records(self.thumbs(some)))
        places = np.full(len(positions), -1, np.int64)
        for start in range(0, len(positions), _SOME):
            at = store.find(self.keys[positions[start : start + _SOME]])
            at[at >= 0] = np.where(store.column(at[at >= 0], "drawn"), -1, at[at >= 0])
            places[start : start + _SOME] = at
        return places

    def waves(self, places: np.ndarray, window: int) -> np.ndarray:
        """The waves, int8 (N, W), of ``window`` of the images whose windows lie at ``places``."""
        return self._windows.column(places, "waves", window)

    def greys(self, positions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Gives the rough.shrunk luma, float32 (M, 16, 16), at some (M,) of ``positions`` whose bytes are there."""
        store = self._store("grey", GREY, {}, [rough.ALGORITHM])
        missing = self._first(positions[self.stored[positions] & (store.find(self.keys[positions]) < 0)])
        for start in range(0, len(missing), _ADDED):
            some = missing[start : start + _ADDED]
            made = np.empty(len(some), GREY)
            made["grey"] = rough.shrunk(self.thumbs(some)) * _QUARTERS
            store.add(self.keys[some], made)
        places = store.find(self.keys[positions])

        def grey(at: np.ndarray) -> np.ndarray:
            return store.take(places[at])["grey"].astype(np.float32) / _QUARTERS

        return grey

    def corners(self, positions: np.ndarray) -> np.ndarray:
        """The keypoints.FEATURES at ``positions``, found now where they are not known."""
        missing = self._first(positions[self._corners.find(self.keys[positions]) < 0])
        for at, found in self._work(keypoints.features, missing, what="clean: corners", lost=_no_corners):
            self._corners.add(self.keys[at], found)
        return self._corners.take(self._corners.find(self.keys[positions]))

    def vectors(self, positions: np.ndarray, name: str) -> np.ndarray:
        """The unit vectors at ``positions`` by embedding ``name``, in whole numbers; zero where the bytes are gone."""
        kind = vectors.dtype(name)
        store = self._store("vector", kind, {"name": name}, [embedding.ALGORITHMS[name]])
        missing = self._first(positions[self.stored[positions] & (store.find(self.keys[positions]) < 0)])
        work = partial(embedding.embed, name=name)
        for at, found in self._work(work, missing, what="clean: features", lost=partial(_no_vector, kind=kind)):
            store.add(self.keys[at], found)
        at = store.find(self.keys[positions])
        out = np.zeros((len(positions), vectors.WIDTHS[name]), np.float32)
        out[at >= 0] = embedding.whole(store.take(at[at >= 0])["vector"])
        return out

    def _store(
        self, kind: str, dtype: np.dtype, params: Mapping[str, object], algorithms: list[Algorithm]
    ) -> facts.Store:
        return facts.Store(self._folder, kind, facts.rule(params, algorithms=algorithms, dtype=dtype), dtype)

    def _first(self, positions: np.ndarray) -> np.ndarray:
        """One of ``positions`` for each key, in their order."""
        return positions[grouping.founders(self.keys[positions]) == np.arange(len(positions))]

    def _examine(self, work: partial) -> dict[bytes, np.void]:
        """Keep what is found out about images that are not known; the DETAILS of those of which it may not be kept."""
        undecided: dict[bytes, np.void] = {}
        unknown = (self._details.find(self.keys) < 0) | (self._thumbs.find(self.keys) < 0)
        missing = self._first(np.flatnonzero(unknown & self.stored))
        for at, found in self._work(work, missing, what="clean", lost=_lost):
            details = np.empty(len(found), DETAILS)
            for name in _SPLIT:
                details[name] = found[name]
            known = details["reason"] != images.UNDECIDED.encode()
            undecided |= {bytes(self.keys[at[row]]): details[row] for row in np.flatnonzero(~known).tolist()}
            self._details.add(self.keys[at[known]], details[known])
            thumbs = np.empty(len(found), THUMB)
            thumbs["thumb"] = found["thumb"]
            self._thumbs.add(self.keys[at[known]], thumbs[known])
        return undecided

    def _work(
        self, work: Callable[[list[Item]], Any], positions: np.ndarray, *, what: str,
        lost: Callable[[Item, workers.Loss], np.ndarray],
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
        """(positions, records) of ``work`` on the images at ``positions``, some thousands at a time."""
        if not len(positions):
            return
        positions = positions[self._along_the_shards(positions)]

        def load() -> Iterator[tuple[bytes, str]]:
            for start in range(0, len(positions), _SOME):
                here = self._index.take(pa.array(positions[start : start + _SOME]))
                located, mattes = here.select(["shard", "row"]).to_pydict(), here["matte"].to_pylist()
                for at, data in shards.read_bytes(self._raw, list(zip(*located.values(), strict=True))):
                    yield data, mattes[at]

        parts: list[np.ndarray] = []
        held = done = 0
        with Progress(len(positions), what=what) as progress:
            preload = ["components.clean.fingerprints"]
            for results in parallel.ordered(work, parallel.batched(load()), lost=lost, preload=preload):
                parts.append(np.stack(list(results)) if isinstance(results, list) else results)
                held += len(results)
                progress.advance(len(results))
                if held >= _ADDED:
                    yield positions[done : done + held], np.concatenate(parts)
                    done, held, parts = done + held, 0, []
        if parts:
            yield positions[done:], np.concatenate(parts)

    def _along_the_shards(self, positions: np.ndarray) -> np.ndarray:
        """The order in which shards.read_bytes gives the images at ``positions``."""
        located = self._index.select(["shard", "row"]).take(pa.array(positions))
        shard = located["shard"].combine_chunks().dictionary_encode()
        rank = np.argsort(np.argsort(np.array(shard.dictionary.to_pylist())))
        return np.lexsort((located["row"].to_numpy(), rank[shard.indices.to_numpy()]))


def _lost(item: Item, loss: workers.Loss) -> np.ndarray:
    fact = np.zeros((), fingerprints.FACTS)
    fingerprints.refuse(fact, *images.lost(item, loss))
    return fact


def _no_vector(_: Item, loss: workers.Loss, *, kind: np.dtype) -> np.ndarray:
    return _nothing(loss, kind)


def _no_corners(_: Item, loss: workers.Loss) -> np.ndarray:
    return _nothing(loss, keypoints.FEATURES)


def _nothing(loss: workers.Loss, kind: np.dtype) -> np.ndarray:
    """The record of an image that was decoded and has no features; UserError where another moment may give some."""
    if loss.by_machine:  # its pairs would be decided without them, for good
        raise workers.failure(loss)
    return np.zeros((), kind)
