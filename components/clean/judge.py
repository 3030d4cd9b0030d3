"""From what is known of images and of their pairs to one verdict each; pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from components.base.grouping import Groups
from components.clean import against, fingerprints
from components.clean.verify import METHODS
from components.samples import manifest

KEPT, REJECTED, WITHDRAWN = _VERDICTS = "kept", "rejected", "withdrawn"
_SOME = 16_384  # rows whose hashes are spelt out at a time


def judge(
    index: pa.Table, details: np.ndarray, words: Mapping[int, str], pairs: np.ndarray, *, barred: np.ndarray,
    cast_out: np.ndarray, held: np.ndarray, min_side: int
) -> pa.Table:  # fmt: skip
    """The verdicts, a table of manifest.VERDICTS, one row for each of ``index``.

    ``details`` has known.JUDGED, ``words`` why a picture could not be decoded, by position, ``pairs`` pairing.PAIR;
    ``barred`` says which pictures were withdrawn elsewhere, ``cast_out`` which a curator rejected: no copy takes their
    place; ``held`` which are of a set to hold out.
    """
    verdicts = _alone(index, details, words, barred, min_side)
    apart = dict.fromkeys(np.flatnonzero(held).tolist(), (against.HELD_OUT, "of a set that must not be trained on"))
    apart |= {at: (against.CONTAMINATED, why) for at, why in against.contaminated(index, pairs, held).items()}
    for position, (reason, why) in apart.items():
        if verdicts.kept(position):
            verdicts.set(position, REJECTED, reason, why)
    twins = _Twins(index, details, verdicts, cast_out)
    twins.reject(pairs)
    for position, (reason, why) in twins.why.items():
        verdicts.set(position, REJECTED, reason, why)
    shown = details["width"] > 0
    contents, twin = index["sha256"], _sparse(twins.of, len(index), pa.int64())
    columns = {name: index[name] for name in manifest.VERDICTS.names if name in index.column_names}
    columns |= verdicts.columns() | {
        "twin": contents.take(twin), "twin_arrival": index["arrival"].take(twin),
        "distance": _sparse({at: each[0] for at, each in twins.measured.items()}, len(index), pa.int64()),
        "difference": _sparse({at: each[1] for at, each in twins.measured.items()}, len(index), pa.float64()),
        "width": _or_none(details["width"], shown), "height": _or_none(details["height"], shown),
        "mode": _text(details["mode"], shown), "format": _text(details["format"], shown),
        "pixel_sha256": _hex(details["pixels"], shown), "phash": _hex(details["phash"], shown),
        "group": contents.take(pa.array(_founders(pairs, len(index)), mask=~shown)),
        "position": pa.array(details["position"]),
    }  # fmt: skip
    return manifest.table({name: columns[name] for name in manifest.VERDICTS.names}, manifest.VERDICTS)


class _Verdicts:
    """Verdict, reason and detail of each image; most are kept, and take a byte."""

    def __init__(self, count: int) -> None:
        self._number = np.zeros(count, np.int8)
        self._why: dict[int, tuple[str, str]] = {}

    def kept(self, position: int) -> bool:
        return self._number[position] == 0

    def set(self, position: int, verdict: str, reason: str, detail: str) -> None:
        self._number[position], self._why[position] = _VERDICTS.index(verdict), (reason, detail)

    def columns(self) -> dict[str, pa.Array]:
        words = pa.DictionaryArray.from_arrays(self._number, pa.array(_VERDICTS)).cast(pa.string())
        count = len(self._number)
        return {
            "verdict": words,
            "reason": _sparse({at: why for at, (why, _) in self._why.items()}, count, pa.string()),
            "detail": _sparse({at: detail for at, (_, detail) in self._why.items()}, count, pa.string()),
        }


def _founders(pairs: np.ndarray, count: int) -> np.ndarray:
    """The first of the group of each of ``count`` images that ``pairs`` make."""
    founders = np.arange(count)
    ends, where = np.unique(np.concatenate([pairs["a"], pairs["b"]]), return_inverse=True)
    groups = Groups(len(ends))  # of those alone that are in a pair; the first stays the first
    groups.join_all(zip(where[: len(pairs)].tolist(), where[len(pairs) :].tolist(), strict=True))
    founders[ends] = ends[[groups.founder(at) for at in range(len(ends))]]
    return founders


def _alone(
    index: pa.Table, details: np.ndarray, words: Mapping[int, str], barred: np.ndarray, min_side: int
) -> _Verdicts:
    """The verdict on each image by itself."""
    found = _Verdicts(len(index))
    for position in np.flatnonzero(details["reason"] != b"").tolist():
        found.set(position, REJECTED, details["reason"][position].decode(), words[position])
    short = (np.minimum(details["width"], details["height"]) < min_side) & (details["width"] > 0)
    for position in np.flatnonzero(short).tolist():
        size = f"{details['width'][position]} x {details['height'][position]}"
        found.set(position, REJECTED, "too_small", f"{size} px, the shorter side must have {min_side}")
    for position in np.flatnonzero(barred).tolist():
        found.set(position, REJECTED, "withdrawn", "shows what was withdrawn by hand")
    for position in np.flatnonzero(~_flags(index["member"])).tolist():
        found.set(position, WITHDRAWN, "gone", "not in the source any more")
    for position in np.flatnonzero(_flags(index["withdrawn"])).tolist():
        found.set(position, WITHDRAWN, "withdrawn", "withdrawn by hand")
    return found


class _Twins:
    """Which images are copies of a better one: larger, else less compressed, else earlier.

    One that a curator rejected comes before all: its copies go with it, also those that come later.  Only a kept
    picture can cast another out, so that a chain of small steps does not empty a series.
    """

    def __init__(self, index: pa.Table, details: np.ndarray, verdicts: _Verdicts, cast_out: np.ndarray) -> None:
        self._names, self._sizes = index["source_key"], np.asarray(index["size"].to_numpy())
        self._contents = index["sha256"]
        self._details, self._verdicts, self._cast_out = details, verdicts, cast_out
        self.of: dict[int, int] = {}
        self.why: dict[int, tuple[str, str]] = {}
        self.measured: dict[int, tuple[int, float]] = {}

    def reject(self, pairs: np.ndarray) -> None:
        """Fill in ``of`` (whom an image is a copy of), ``why`` and what was ``measured``."""
        pairs = pairs[pairs["same"]]
        exact = pairs["how"] <= METHODS.index("pixels")
        shown: dict[int, int] = {}  # each picture that has copies, by the first that shows it
        members: dict[int, list[int]] = {}
        for a, b in pairs[["a", "b"]][exact].tolist():
            shown[b] = shown[a] = a
            members.setdefault(a, [a]).append(b)
        near: dict[int, list] = {}
        for pair in pairs[~exact]:
            for one, other in ((int(pair["a"]), int(pair["b"])), (int(pair["b"]), int(pair["a"]))):
                near.setdefault(one, []).append((other, pair))
                members.setdefault(one, [one])
        kept: dict[int, int] = {}
        alive = {first: sorted((at for at in each if self._verdicts.kept(at)), key=lambda at: not self._cast_out[at])
                 for first, each in members.items()}  # fmt: skip
        for first in sorted((each for each in alive if alive[each]), key=lambda each: self._rank(alive[each][0])):
            better = [(int(pair["distance"]), float(pair["difference"]), kept[other], pair)
                      for other, pair in near.get(first, ()) if other in kept]  # fmt: skip
            if better:
                *_, twin, pair = min(better, key=lambda found: found[:3])
                for position in alive[first]:
                    self._near(position, twin, pair)
                continue
            best = kept[first] = alive[first][0]
            for position in alive[first][1:]:
                self._exact(position, best)

    def _rank(self, position: int) -> tuple[bool, int, int, int]:
        area = int(self._details["width"][position]) * int(self._details["height"][position])
        return not self._cast_out[position], -area, -int(self._sizes[position]), position

    def _exact(self, position: int, twin: int) -> None:
        what = "bytes" if self._contents[position] == self._contents[twin] else "pixels"
        self.of[position], self.measured[position] = twin, (0, 0.0)
        self.why[position] = "duplicate", f"the same {what} as {self._names[twin]}"

    def _near(self, position: int, twin: int, pair: np.void) -> None:
        self.of[position] = twin
        self.measured[position] = int(pair["distance"]), float(pair["difference"])
        corners = f" and {pair['inliers']} corners in common" if pair["inliers"] >= 0 else ""
        self.why[position] = (
            "near_duplicate",
            (
                f"{pair['distance']} of {fingerprints.BITS} bits and at most {pair['difference']:.3f} of colour apart "
                f"from {self._names[twin]}, correlation {pair['correlation']:.3f}{corners}"
            ),
        )


def _flags(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(), bool)


def _or_none(values: np.ndarray, shown: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int64), mask=~shown)


def _sparse(values: Mapping[int, object], count: int, kind: pa.DataType) -> pa.Array:
    """A column of ``count`` rows, missing but for the positions in ``values``."""
    positions = np.fromiter(values, np.int64, len(values))
    return _spread(pa.array(values.values(), kind), positions, count)


def _spread(values: pa.Array, positions: np.ndarray, count: int) -> pa.Array:
    """A column of ``count`` rows, missing but for ``positions``, which have ``values``."""
    places = np.zeros(count, np.int64)
    places[positions] = np.arange(len(positions))
    missing: np.ndarray = np.ones(count, bool)
    missing[positions] = False
    return values.take(pa.array(places, mask=missing))


def _text(values: np.ndarray, shown: np.ndarray) -> pa.Array:
    words, which = np.unique(values.view(np.uint64), return_inverse=True)  # 8 characters are quicker as one number
    texts = [word.decode() or None for word in words.view(values.dtype).tolist()]
    return pa.array(texts, pa.string()).take(pa.array(which, mask=~shown))


def _hex(values: np.ndarray, shown: np.ndarray) -> pa.ChunkedArray:
    parts = [_digits(values[start : start + _SOME], shown[start : start + _SOME])
             for start in range(0, len(values), _SOME)]  # fmt: skip
    return pa.chunked_array(parts, pa.string())


def _digits(values: np.ndarray, shown: np.ndarray) -> pa.Array:
    digits = values[shown].tobytes().hex().encode()
    offsets = np.arange(0, len(digits) + 1, 2 * values.shape[1]).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(digits))
    return _spread(texts, np.flatnonzero(shown), len(values))
