"""What is known of the images of an index: decoded once for each content and matte, and kept as facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.base import parallel, workers
from components.base.algorithms import Algorithm
from components.base.events import Progress
from components.clean import embedding, fingerprints, keypoints, windows
from components.decode import images
from components.embed import vectors
from components.samples import facts, shards

Item = tuple[bytes, str]
"""An image file and its matte."""
_SPLIT = [name for name in fingerprints.FACTS.names or () if name != "thumb"]
DETAILS = np.dtype([(name, fingerprints.FACTS[name]) for name in _SPLIT])
THUMB = np.dtype([("thumb", fingerprints.FACTS["thumb"])])
_ADDED = 4096  # images after which what was found out is kept, whatever happens then


class Known:
    """The facts of each row of an index, by position in it.

    ``details`` (N,) has DETAILS; those of a row whose bytes are gone are the caller's to fill in.  ``keys`` are the
    names of content and matte under which facts are kept.
    """

    def __init__(self, index: pa.Table, *, raw: Path, folder: Path, max_pixels: int) -> None:
        self._raw, self._folder = raw, folder
        self._index = index
        contents, mattes = index["sha256"].to_pylist(), index["matte"].to_pylist()
        self.keys = facts.keys([facts.key(*both) for both in zip(contents, mattes, strict=True)])
        self.stored = np.asarray(index["row"].to_numpy()) >= 0
        names, prints, corners = {"max_pixels": max_pixels}, [fingerprints.ALGORITHM], [keypoints.ALGORITHM]
        self._details = self._store("image", DETAILS, names, prints)
        self._thumbs = self._store("thumb", THUMB, names, prints)
        self._corners = self._store("corners", keypoints.FEATURES, {}, corners)
        self.details = np.zeros(len(index), DETAILS)
        undecided = self._examine(partial(fingerprints.examine, max_pixels=max_pixels))
        at = self._details.find(self.keys)
        self.details[self.stored & (at >= 0)] = self._details.take(at[self.stored & (at >= 0)])
        for position in np.flatnonzero(self.stored & (at < 0)).tolist():
            self.details[position] = undecided[bytes(self.keys[position])]

    def thumbs(self, positions: np.ndarray) -> np.ndarray:
        """The thumbnails at ``positions``, uint8 (N, 32, 32, 3); black where the bytes are gone."""
        at = self._thumbs.find(self.keys[positions])
        out = np.zeros((len(positions), *fingerprints.FACTS["thumb"].shape), np.uint8)
        out[at >= 0] = self._thumbs.take(at[at >= 0])["thumb"]
        return out

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """The windows.RECORD at ``positions``; where the bytes are gone a drawing, which is not searched for."""
        store = self._store("windows", windows.RECORD, {}, [windows.ALGORITHM])
        missing = self._first(positions[self.stored[positions] & (store.find(self.keys[positions]) < 0)])
        for start in range(0, len(missing), _ADDED):
            some = missing[start : start + _ADDED]
            store.add(self.keys[some], windows.records(self.thumbs(some)))
        at = store.find(self.keys[positions])
        out = np.zeros(len(positions), windows.RECORD)
        out["drawn"] = True
        out[at >= 0] = store.take(at[at >= 0])
        return out

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
        _, first = np.unique(self.keys[positions].view("S32"), return_index=True)
        return positions[np.sort(first)]

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
        located = self._index.take(pa.array(positions)).select(["shard", "row", "matte"]).to_pydict()
        order: list[int] = []

        def load() -> Iterator[tuple[bytes, str]]:
            for at, data in shards.read_bytes(self._raw, list(zip(located["shard"], located["row"], strict=True))):
                order.append(at)
                yield data, located["matte"][at]

        parts: list[np.ndarray] = []
        held = done = 0
        with Progress(len(positions), what=what) as progress:
            preload = ["components.clean.fingerprints"]
            for results in parallel.ordered(work, parallel.batched(load()), lost=lost, preload=preload):
                parts.append(np.stack(list(results)) if isinstance(results, list) else results)
                held += len(results)
                progress.advance(len(results))
                if held >= _ADDED:
                    yield positions[order[done : done + held]], np.concatenate(parts)
                    done, held, parts = done + held, 0, []
        if parts:
            yield positions[order[done:]], np.concatenate(parts)


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
