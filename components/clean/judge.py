"""From what is known of images and of their pairs to one verdict each; pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from components.base.grouping import Groups
from components.clean import against, fingerprints
from components.clean.verify import METHODS
from components.samples import manifest

KEPT, REJECTED, WITHDRAWN = "kept", "rejected", "withdrawn"


def judge(
    index: pa.Table, details: np.ndarray, pairs: np.ndarray, *, barred: np.ndarray, cast_out: np.ndarray,
    held: np.ndarray, min_side: int
) -> pa.Table:  # fmt: skip
    """The verdicts, a table of manifest.VERDICTS, one row for each of ``index``.

    ``details`` has known.DETAILS, ``pairs`` pairing.PAIR; ``barred`` says which pictures were withdrawn elsewhere,
    ``cast_out`` which a curator rejected: no copy takes their place; ``held`` which are of a set to hold out.
    """
    count = len(index)
    verdict, reason, detail = _alone(index, details, barred, min_side)
    apart = dict.fromkeys(np.flatnonzero(held).tolist(), (against.HELD_OUT, "of a set that must not be trained on"))
    apart |= {at: (against.CONTAMINATED, words) for at, words in against.contaminated(index, pairs, held).items()}
    for position, (why, words) in apart.items():
        if verdict[position] == KEPT:
            verdict[position], reason[position], detail[position] = REJECTED, why, words
    twins = _Twins(index, details, verdict, cast_out)
    twins.reject(pairs)
    for position, (why, words) in twins.why.items():
        verdict[position], reason[position], detail[position] = REJECTED, why, words
    shown = [bool(width) for width in details["width"].tolist()]
    founders = np.arange(count)
    groups = Groups(count)
    groups.join_all(zip(pairs["a"].tolist(), pairs["b"].tolist(), strict=True))
    for position in np.unique(np.concatenate([pairs["a"], pairs["b"]])).tolist():
        founders[position] = groups.founder(position)
    contents = index["sha256"]
    twin = pa.array([twins.of.get(at) for at in range(count)], pa.int64())
    measured = {name: [twins.measured.get(at, (None, None))[nth] for at in range(count)]
                for nth, name in enumerate(("distance", "difference"))}  # fmt: skip
    columns = {name: index[name] for name in manifest.VERDICTS.names if name in index.column_names}
    columns |= {
        "verdict": verdict, "reason": reason, "detail": detail, "twin": contents.take(twin),
        "twin_arrival": index["arrival"].take(twin), **measured,
        "width": _or_none(details["width"], shown), "height": _or_none(details["height"], shown),
        "mode": _text(details["mode"], shown), "format": _text(details["format"], shown),
        "pixel_sha256": _hex(details["pixels"], shown), "phash": _hex(details["phash"], shown),
        "group": contents.take(pa.array(founders, mask=~np.array(shown, bool))),
        "position": pa.array(details["position"]),
    }  # fmt: skip
    return manifest.table({name: columns[name] for name in manifest.VERDICTS.names}, manifest.VERDICTS)


def _alone(index: pa.Table, details: np.ndarray, barred: np.ndarray, min_side: int) -> tuple[list, list, list]:
    """Verdict, reason and detail of each image by itself."""
    verdict = [KEPT] * len(index)
    reason: list[str | None] = [None] * len(index)
    detail: list[str | None] = [None] * len(index)
    for position in np.flatnonzero(details["reason"] != b"").tolist():
        verdict[position], reason[position] = REJECTED, details["reason"][position].decode()
        detail[position] = details["detail"][position].decode()
    short = (np.minimum(details["width"], details["height"]) < min_side) & (details["width"] > 0)
    for position in np.flatnonzero(short).tolist():
        size = f"{details['width'][position]} x {details['height'][position]}"
        verdict[position], reason[position] = REJECTED, "too_small"
        detail[position] = f"{size} px, the shorter side must have {min_side}"
    for position in np.flatnonzero(barred).tolist():
        verdict[position], reason[position] = REJECTED, "withdrawn"
        detail[position] = "shows what was withdrawn by hand"
    for position in np.flatnonzero(~_flags(index["member"])).tolist():
        verdict[position], reason[position], detail[position] = WITHDRAWN, "gone", "not in the source any more"
    for position in np.flatnonzero(_flags(index["withdrawn"])).tolist():
        verdict[position], reason[position], detail[position] = WITHDRAWN, "withdrawn", "withdrawn by hand"
    return verdict, reason, detail


class _Twins:
    """Which images are copies of a better one: larger, else less compressed, else earlier.

    One that a curator rejected comes before all: its copies go with it, also those that come later.  Only a kept
    picture can cast another out, so that a chain of small steps does not empty a series.
    """

    def __init__(self, index: pa.Table, details: np.ndarray, verdict: list, cast_out: np.ndarray) -> None:
        self._names, self._sizes = index["source_key"], np.asarray(index["size"].to_numpy())
        self._contents = index["sha256"]
        self._details, self._verdict, self._cast_out = details, verdict, cast_out
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
        alive = {first: sorted((at for at in each if self._verdict[at] == KEPT), key=lambda at: not self._cast_out[at])
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


def _or_none(values: np.ndarray, shown: list[bool]) -> pa.Array:
    return pa.array(values.astype(np.int64), mask=~np.array(shown, bool))


def _text(values: np.ndarray, shown: list[bool]) -> list[str | None]:
    return [value.decode() or None if there else None for value, there in zip(values.tolist(), shown, strict=True)]


def _hex(values: np.ndarray, shown: list[bool]) -> list[str | None]:
    digits = np.ascontiguousarray(values).tobytes().hex()
    return [digits[64 * at : 64 * at + 64] if there else None for at, there in enumerate(shown)]
