"""All pairs among the images of an index: equal ones, those of a named group, look-alikes, and those on record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from components.base import files, grouping, parallel
from components.base.algorithms import Algorithm
from components.base.events import Progress
from components.clean import embedding, fingerprints, search, verify, windows
from components.clean.known import Known
from components.clean.verify import AUTO, CANDIDATE, DRAWN, METHODS, VERDICT, Candidate, Look, Rule
from components.samples import facts

BY_FEATURES = Algorithm(
    "candidates by features", 1, ("numpy",), uses=(embedding.NEAR, fingerprints.ALGORITHM, search.ALGORITHM)
)
PAIR = np.dtype([
    ("a", "<i8"), ("b", "<i8"), ("same", "?"), ("how", "u1"), ("orientation", "u1"), ("distance", "<i2"),
    ("difference", "<f8"), ("correlation", "<f8"), ("inliers", "<i4"),
])  # fmt: skip
"""Positions a < b.  What was not measured is -1 (distance, inliers) or not a number."""
_VERIFIED = 256  # candidates in a batch
_LOOKED = 2048  # of them whose pictures are in memory
_KEPT = 16_384  # verdicts after which they are kept, whatever happens then


def found(a: np.ndarray, b: np.ndarray, method: str, *, same: bool) -> np.ndarray:
    """PAIRs without measurements; ``method`` is one of METHODS."""
    pairs = np.zeros(len(a), PAIR)
    pairs["a"], pairs["b"], pairs["how"], pairs["same"] = a, b, METHODS.index(method), same
    pairs["distance"] = pairs["inliers"] = -1
    pairs["difference"] = pairs["correlation"] = np.nan
    return pairs


def equal(known: Known, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PAIRs of each picture with the first that shows exactly the same, and the positions of the firsts.

    ``whole`` (N,) says which rows are pictures at all.
    """
    positions = np.flatnonzero(whole)
    founders = positions[grouping.founders(known.details["pixels"][positions])]
    twins = founders != positions
    a, b = founders[twins], positions[twins]
    pairs = found(a, b, "pixels", same=True)
    pairs["how"][known.keys[a] == known.keys[b]] = METHODS.index("bytes")
    pairs["distance"], pairs["difference"], pairs["correlation"] = 0, 0.0, 1.0
    return pairs, positions[~twins]


def named(index: pa.Table, whole: np.ndarray) -> np.ndarray:
    """PAIRs of each image of a group that its source names with the first of that group."""
    positions = np.flatnonzero(whole & index["group_key"].is_valid().to_numpy())
    some = index.select(["source", "group_key"]).take(pa.array(positions)).to_pydict()
    first: dict[tuple[str, str], int] = {}
    called = zip(some["source"], some["group_key"], strict=True)
    founders = np.array([first.setdefault(name, at) for name, at in zip(called, positions.tolist(), strict=True)],
                        np.int64)  # fmt: skip
    later = founders != positions
    return found(founders[later], positions[later], "group", same=False)


def alike(known: Known, firsts: np.ndarray, gone: np.ndarray, rule: Rule, folder: Path) -> np.ndarray:
    """PAIRs of look-alikes among the different pictures at ``firsts``; ``gone`` (N,) says whose bytes are."""
    near = _candidates(known, firsts, rule, folder)
    near["a"], near["b"] = firsts[near["a"]], firsts[near["b"]]
    near = near[~(gone[near["a"]] | gone[near["b"]])]
    verdicts = _verdicts(known, near, rule, folder)
    kept = verdicts["found"]
    near, verdicts = near[kept], verdicts[kept]
    best = np.lexsort((near["orientation"], -verdicts["correlation"], ~verdicts["same"], near["b"], near["a"]))
    near, verdicts = near[best], verdicts[best]  # several orientations of one pair may fit
    pairs = np.zeros(len(near), PAIR)
    for name in ("a", "b", "distance"):
        pairs[name] = near[name]
    for name in ("same", "how", "orientation", "difference", "correlation", "inliers"):
        pairs[name] = verdicts[name]
    return pairs


def _candidates(known: Known, firsts: np.ndarray, rule: Rule, folder: Path) -> np.ndarray:
    """CANDIDATEs, positions being those in ``firsts``; what was searched among the first of them is not again."""
    hashes = np.ascontiguousarray(known.details["phash"][firsts])
    shown = known.details["pixels"][firsts]
    names = {"radius": rule.max_distance, "embedding": rule.embedding, "cosine": rule.min_cosine}
    algorithms = [verify.CANDIDATES]
    if rule.max_distance == AUTO:
        algorithms += [windows.SEARCH]
    if rule.embedding != "none":
        algorithms += [BY_FEATURES, embedding.ALGORITHMS[rule.embedding]]
    searches = folder / "candidates" / facts.rule(names, algorithms=algorithms, dtype=CANDIDATE)
    since, old = _searched(searches, shown)
    if since == len(firsts):
        return old

    def thumbs(at: np.ndarray) -> np.ndarray:
        return known.thumbs(firsts[at])

    if rule.max_distance == AUTO:
        places = known.searched(firsts)
        parts = [verify.candidates(hashes, thumbs, since, DRAWN[0], places < 0),
                 _by_windows(known, firsts, hashes, places, since)]  # fmt: skip
    else:
        parts = [verify.candidates(hashes, thumbs, since, rule.max_distance)]
    new = np.unique(np.concatenate([*parts, *_by_features(known, firsts, hashes, since, rule)]))
    near = np.concatenate([old, new])
    with files.replacing(searches / f"{len(firsts):010d}-{_prefix(shown)}.npy") as path, path.open("wb") as stream:
        np.save(stream, near, allow_pickle=False)
    return near


def _by_windows(known: Known, firsts: np.ndarray, hashes: np.ndarray, places: np.ndarray, since: int) -> np.ndarray:
    """CANDIDATEs among photographs, by parts of them."""
    sides = np.minimum(known.details["width"][firsts], known.details["height"][firsts])
    found = windows.candidates(places, known.waves, known.greys(firsts), sides >= verify.LARGE, since)
    part = np.empty(len(found), CANDIDATE)
    for name in ("a", "b", "orientation"):
        part[name] = found[name]
    bits = _bits(known, firsts, hashes, found["a"], found["b"])
    part["distance"] = bits[found["orientation"], np.arange(len(found))]
    return part


def _bits(known: Known, firsts: np.ndarray, hashes: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differing bits, (8, N), of pictures ``a`` and ``b`` in each orientation."""
    found = np.empty((8, len(a)), np.int64)
    for start in range(0, len(a), _LOOKED):
        some = slice(start, start + _LOOKED)
        later, where = np.unique(b[some], return_inverse=True)
        turned = fingerprints.all_hashes(known.thumbs(firsts[later]))
        found[:, some] = search.hamming(turned[:, where], hashes[a[some]])
    return found


def _by_features(known: Known, firsts: np.ndarray, hashes: np.ndarray, since: int, rule: Rule) -> list[np.ndarray]:
    """CANDIDATEs by embedding: as they lie, mirrored, and in the orientation whose hashes are nearest."""
    if rule.embedding == "none":
        return []
    found = embedding.near(known.vectors(firsts, rule.embedding), since, rule.min_cosine)
    bits = _bits(known, firsts, hashes, found.a, found.b)
    parts = []
    for orientation in (np.zeros(len(found), np.int64), np.ones(len(found), np.int64), bits.argmin(axis=0)):
        part = np.empty(len(found), CANDIDATE)
        part["a"], part["b"], part["orientation"] = found.a, found.b, orientation
        part["distance"] = bits[orientation, np.arange(len(found))]
        # What is near by its hash is a candidate already.
        parts.append(part if rule.max_distance == AUTO else part[part["distance"] > rule.max_distance])
    return [np.unique(np.concatenate(parts))]


def _searched(folder: Path, shown: np.ndarray) -> tuple[int, np.ndarray]:
    """How many of the first pictures were searched before, and what was found; only the latest two are kept."""
    found = sorted(folder.glob("*.npy"), reverse=True)
    best = 0, np.empty(0, CANDIDATE)
    for path in found:
        count, _, digest = path.stem.partition("-")
        if best[0] == 0 and count.isdecimal() and int(count) <= len(shown) and digest == _prefix(shown[: int(count)]):
            try:
                old = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                old = None
            if old is not None and old.dtype == CANDIDATE and (not len(old) or int(old["b"].max()) < int(count)):
                best = int(count), old
                continue
        path.unlink(missing_ok=True)
    return best


def _prefix(shown: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(shown).data).hexdigest()[:24]


def _verdicts(known: Known, near: np.ndarray, rule: Rule, folder: Path) -> np.ndarray:
    """The VERDICT on each candidate, from the facts or seen now."""
    names = {
        # The distance too: it decides which candidates may be moved about before they are compared.
        "distance": rule.max_distance, "difference": rule.max_difference, "correlation": rule.min_correlation,
        "inliers": rule.min_inliers,
    }  # fmt: skip
    store = facts.Store(folder, "pair", facts.rule(names, algorithms=[verify.VERIFY], dtype=VERDICT), VERDICT)
    rows = np.empty(len(near), [("a", facts.KEY), ("b", facts.KEY), ("orientation", "u1")])
    rows["a"], rows["b"], rows["orientation"] = known.keys[near["a"]], known.keys[near["b"]], near["orientation"]
    keys = facts.keys([hashlib.sha256(row).digest() for row in rows])
    missing = np.flatnonzero(store.find(keys) < 0)
    if len(missing):
        _see(known, near[missing], keys[missing], store, rule)
    return store.take(store.find(keys))


def _see(known: Known, near: np.ndarray, keys: np.ndarray, store: facts.Store, rule: Rule) -> None:
    """Look at each candidate, and keep the VERDICT under its key."""
    # An array of records does for a list of them.
    work = cast(Callable[[list[Candidate]], list[np.void]], partial(verify.verify, rule=rule))
    batches = (looks[at : at + _VERIFIED] for start in range(0, len(near), _LOOKED)
               for looks in [_looks(known, near[start : start + _LOOKED])]
               for at in range(0, len(looks), _VERIFIED))  # fmt: skip
    results: list[np.ndarray] = []
    done = held = 0
    with Progress(len(near), what="clean: pairs") as progress:
        for result in parallel.ordered(work, batches):
            results.append(np.asarray(result))
            held += len(result)
            progress.advance(len(result))
            if held >= _KEPT or done + held == len(near):
                store.add(keys[done : done + held], np.concatenate(results))
                done, held, results = done + held, 0, []


def _looks(known: Known, near: np.ndarray) -> list[Candidate]:
    ends, where = np.unique(np.concatenate([near["a"], near["b"]]), return_inverse=True)
    thumbs, details = known.thumbs(ends), known.details[["width", "height"]][ends]
    sizes = list(zip(details["width"].tolist(), details["height"].tolist(), strict=True))
    large = np.minimum(details["width"], details["height"]) >= verify.LARGE
    one, other = where[: len(near)], where[len(near) :]
    both = large[one] & large[other]
    wanted = np.unique(np.concatenate([one[both], other[both]]))
    corners = dict(zip(wanted.tolist(), known.corners(ends[wanted]), strict=True)) if len(wanted) else {}

    def look(at: int, by_corners: bool) -> Look:
        return Look(thumbs[at], *sizes[at], corners[at] if by_corners else None)

    columns = near["orientation"].tolist(), near["distance"].tolist()
    rows = zip(one.tolist(), other.tolist(), both.tolist(), *columns, strict=True)
    return [(look(a, rich), look(b, rich), number, bits) for a, b, rich, number, bits in rows]
