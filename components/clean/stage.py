"""Judge every image: keep it, or say why not and what it duplicates."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.base import files, grouping
from components.base.errors import UserError
from components.clean import against, fingerprints, judge
from components.clean import overrule as curator
from components.clean import pairs as pairing
from components.clean.known import Known
from components.clean.params import CleanParams
from components.clean.verify import METHODS, Rule
from components.samples import decisions as decided
from components.samples import manifest, shards
from components.samples import withdrawn as record
from components.samples.withdrawn import Tombstone

log = logging.getLogger(__name__)

_SOME = 16_384  # names of groups at a time

REASONS = ("duplicate", "near_duplicate", "damaged", "not_an_image", "format", "too_small", "too_large", "undecided",
           "withdrawn", curator.CURATOR, against.HELD_OUT, against.CONTAMINATED)  # fmt: skip


def clean(
    params: CleanParams, *, raw: Path, withdrawn: Path, decisions: Path, verdicts: Path, facts: Path
) -> dict[str, float]:
    """Keep one of each set of equal pictures; say of every other image why it was rejected."""
    index = shards.read_index(raw)
    stones, standing = record.read(withdrawn), decided.standing(decisions)
    known = Known(index, raw=raw, folder=facts, max_pixels=params.max_pixels)
    gone = ~known.stored
    held = against.held_out(index, params.against)
    _remember(known.details, index, gone, stones)
    rule = Rule(
        params.max_distance, params.max_difference, params.min_correlation, params.min_inliers,
        params.embedding, params.min_cosine,
    )  # fmt: skip
    pairs = pairs_of(index, known, gone, stones, rule, facts)
    details, words = known.details, known.words
    del known  # its stores, for the memory
    barred = _barred(details, index, gone)
    by_rule = judge.judge(
        curator.labelled(index, standing), details, words, pairs, barred=barred,
        cast_out=curator.cast_out(index, standing), held=held, min_side=params.min_side,
    )  # fmt: skip
    table, outcomes = curator.overrule(by_rule, index, standing)
    counts = _counted(table["verdict"])
    reasons = _counted(table["reason"].filter(pa.compute.equal(table["verdict"], "rejected")))
    if not counts["kept"]:
        listed = ", ".join(f"{reason} {n}" for reason, n in sorted((counts | reasons).items()) if reason != "rejected")
        raise UserError(f"no image is left after cleaning ({listed}): look at section 'clean' of params.yaml")
    with files.replacing_folder(verdicts) as folder:
        manifest.write(folder / "verdicts.parquet", table)
        manifest.write(folder / "pairs.parquet", _pairs_table(index, pairs))
        manifest.write(folder / manifest.OUTCOMES, outcomes)
    groups = _sizes(table["group"].filter(pa.compute.equal(table["verdict"], "kept")))
    why = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
    log.info("%d images kept in %d groups, %d rejected%s", counts["kept"], len(groups), counts["rejected"],
             f" ({why})" if why else "")  # fmt: skip
    idle = _say(outcomes)
    return {
        "images": len(table), "kept": counts["kept"], "withdrawn": counts["withdrawn"],
        "rejected": counts["rejected"], **{f"rejected_{reason}" if reason == "withdrawn" else reason: reasons[reason]
                                           for reason in REASONS},
        "pairs": len(pairs), "groups": len(groups), "largest_group": int(groups.max()),
        "decisions": len(outcomes), "idle_decisions": idle,
    }  # fmt: skip


def _counted(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({each["values"]: each["counts"] for each in column.value_counts().to_pylist()})


def _sizes(groups: pa.ChunkedArray) -> np.ndarray:
    """How many rows each group has; told apart by 16 of their digits, which takes an eighth of the memory."""
    heads = np.empty(len(groups), np.uint64)
    for start in range(0, len(groups), _SOME):
        heads[start : start + _SOME] = [int(name[:16], 16) for name in groups.slice(start, _SOME).to_pylist()]
    return np.unique(heads, return_counts=True)[1]


def _say(outcomes: pa.Table) -> int:
    """Log how many decisions of curators change nothing, and why; how many these are."""
    faults = Counter(outcomes["fault"].drop_null().to_pylist())
    if faults:
        why = "; ".join(f"{fault}: {n:,}" for fault, n in sorted(faults.items()))
        log.info("%d of %d decisions of curators change nothing (%s)", faults.total(), len(outcomes), why)
    return faults.total()


def _remember(details: np.ndarray, index: pa.Table, gone: np.ndarray, stones: dict[str, Tombstone]) -> None:
    """Fill in what the tombstones say of images whose bytes are gone."""
    positions = np.flatnonzero(gone)
    names = index["sha256"].take(pa.array(positions)).to_pylist()
    for position, name in zip(positions.tolist(), names, strict=True):
        stone = stones.get(name)
        if stone and stone.pixel_sha256 and stone.phash and stone.width and stone.height:
            fact = details[position]
            fact["pixels"] = np.frombuffer(bytes.fromhex(stone.pixel_sha256), np.uint8)
            fact["phash"] = np.frombuffer(bytes.fromhex(stone.phash), np.uint8)
            fact["width"], fact["height"] = stone.width, stone.height


def pairs_of(
    index: pa.Table, known: Known, gone: np.ndarray, stones: dict[str, Tombstone], rule: Rule, folder: Path
) -> np.ndarray:
    """pairing.PAIRs of positions, sorted, each two images once: the first of the ways in which they are a pair.

    Whether two images are a pair depends on these two and on nothing that came later.
    """
    whole = known.details["width"] > 0
    equal, firsts = pairing.equal(known, whole)
    parts = [
        equal, pairing.alike(known, firsts, gone, rule, folder), _recorded(index, gone & whole, stones, whole),
        pairing.named(index, whole),
    ]  # fmt: skip
    rank = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    pairs = np.concatenate(parts)
    order = np.lexsort((rank, pairs["b"], pairs["a"]))
    pairs = pairs[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (np.diff(pairs["a"]) != 0) | (np.diff(pairs["b"]) != 0)
    return pairs[first]


def _recorded(index: pa.Table, gone: np.ndarray, stones: dict[str, Tombstone], whole: np.ndarray) -> np.ndarray:
    """The pairs that a withdrawn image had: its tombstone holds together what came before and after."""
    if not gone.any():
        return pairing.found(np.empty(0, np.int64), np.empty(0, np.int64), "withdrawn", same=False)
    positions = np.flatnonzero(gone)
    lost = [stones.get(name) for name in index["sha256"].take(pa.array(positions)).to_pylist()]
    named = pa.array(sorted({other for stone in lost if stone for other, _ in stone.pairs}), pa.string())
    there = np.flatnonzero(whole & pa.compute.is_in(index["sha256"], named).to_numpy())
    first: dict[str, int] = {}
    for name, position in zip(index["sha256"].take(pa.array(there)).to_pylist(), there.tolist(), strict=True):
        first.setdefault(name, position)
    ends = set()
    for position, stone in zip(positions.tolist(), lost, strict=True):
        for other, _ in stone.pairs if stone else ():
            if first.get(other, position) != position:
                ends.add((min(position, first[other]), max(position, first[other])))
    columns = np.array(sorted(ends), np.int64).reshape(-1, 2)
    return pairing.found(columns[:, 0], columns[:, 1], "withdrawn", same=False)


def _barred(details: np.ndarray, index: pa.Table, gone: np.ndarray) -> np.ndarray:
    """Which pictures show just what was withdrawn."""
    by_hand = np.asarray(index["withdrawn"].to_numpy(), bool) & (details["width"] > 0)
    if not by_hand.any():
        return by_hand
    # The first that shows the same: of what was withdrawn it is one that was, as those come first here.
    order = np.argsort(~by_hand, kind="stable")
    barred = np.empty(len(details), bool)
    barred[order] = by_hand[order][grouping.founders(details["pixels"][order])]
    return barred & (details["width"] > 0) & ~gone


def _pairs_table(index: pa.Table, pairs: np.ndarray) -> pa.Table:
    arrival = np.asarray(index["arrival"].to_numpy())
    corners = pairs["inliers"].astype(np.int64)
    names = np.array(fingerprints.ORIENTATIONS)[pairs["orientation"]]
    columns = {
        "a": arrival[pairs["a"]], "b": arrival[pairs["b"]], "same": pairs["same"],
        "how": np.array(METHODS)[pairs["how"]].tolist(),
        "orientation": pa.array(names.tolist(), mask=np.isnan(pairs["correlation"])),
        "distance": pa.array(pairs["distance"].astype(np.int64), mask=pairs["distance"] < 0),
        "difference": pa.array(pairs["difference"], mask=np.isnan(pairs["difference"])),
        "correlation": pa.array(pairs["correlation"], mask=np.isnan(pairs["correlation"])),
        "inliers": pa.array(corners, mask=corners < 0),
    }  # fmt: skip
    return manifest.table(columns, manifest.PAIRS)
