"""Judge every image: keep it, or say why not and what it duplicates."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from components import duplicates, files, fingerprints, images, manifest, parallel, shards
from components.duplicates import Pair, Rule
from components.errors import UserError
from components.events import Progress
from components.fingerprints import Facts
from components.grouping import Groups
from components.params import Params

log = logging.getLogger(__name__)

REASONS = ("duplicate", "near_duplicate", "damaged", "not_an_image", "format", "too_small", "too_large")


class CleanParams(Params):
    """What is too small or too large, and what counts as the same picture."""

    min_side: int = Field(ge=1, le=65535, description="px: the shorter side of the smallest image kept, 1..65535")
    max_pixels: int = Field(
        ge=1, le=2**31 - 1, description="px: width x height of the largest image decoded, 1..2**31-1"
    )
    max_distance: int = Field(
        ge=0, le=64, description="differing bits, of 64, up to which two images are the same picture, 0..64"
    )
    max_difference: float = Field(
        ge=0, le=1, description="largest colour difference in a 16 x 16 thumbnail for the same picture, 0..1"
    )
    group_distance: int = Field(
        ge=0, le=64, description="differing bits, of 64, up to which two images can be of one group, 0..64"
    )
    group_correlation: float = Field(
        ge=-1, le=1, description="least correlation of luma gradients for one group, -1..1"
    )


def clean(params: CleanParams, *, raw: Path, verdicts: Path) -> dict[str, float]:
    """Keep one of each set of equal pictures; say of every other image why it was rejected."""
    index = shards.read_index(raw).to_pylist()
    facts = _examine_all(index, raw, params.max_pixels)
    rule = Rule(params.max_distance, params.max_difference, params.group_distance, params.group_correlation)
    pairs = pairs_of(facts, rule)
    rows = judge(index, facts, pairs, min_side=params.min_side)
    counts = Counter(row["reason"] or "kept" for row in rows)
    if not counts["kept"]:
        said = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
        raise UserError(f"no image is left after cleaning ({said}): look at section 'clean' of params.yaml")
    with files.replacing_folder(verdicts) as folder:
        manifest.write(folder / "verdicts.parquet", manifest.rows(rows, manifest.VERDICTS))
        manifest.write(folder / "pairs.parquet", _pairs_table(index, pairs))
    groups = Counter(row["group"] for row in rows if row["verdict"] == "kept")
    log.info("%d images kept in %d groups; %s", counts["kept"], len(groups), dict(counts))
    return {
        "images": len(rows), "kept": counts["kept"], "withdrawn": counts["withdrawn"],
        "rejected": len(rows) - counts["kept"] - counts["withdrawn"],
        **{reason: counts[reason] for reason in REASONS},
        "pairs": len(pairs), "groups": len(groups), "largest_group": max(groups.values()),
    }  # fmt: skip


def _examine_all(index: list[dict], raw: Path, max_pixels: int) -> list[Facts | tuple[str, str]]:
    """The facts, or (reason, detail), of each row of the index; equal bytes on one matte are decoded once."""
    first: dict[tuple[str, str], int] = {}
    for position, row in enumerate(index):
        first.setdefault((row["sha256"], row["matte"]), position)
    positions = list(first.values())
    order: list[int] = []

    def load():
        for at, data in shards.read_bytes(raw, [(index[i]["shard"], index[i]["row"]) for i in positions]):
            order.append(positions[at])
            yield data, index[positions[at]]["matte"]

    found: list[Facts | tuple[str, str]] = []
    with Progress(len(positions), what="clean") as progress:
        work = partial(fingerprints.examine, max_pixels=max_pixels)
        for results in parallel.ordered(work, parallel.batched(load()), lost=images.lost):
            found.extend(results)
            progress.advance(len(results))
    known = dict(zip(order, found, strict=True))
    return [known[first[row["sha256"], row["matte"]]] for row in index]


def pairs_of(facts: list[Facts | tuple[str, str]], rule: Rule) -> list[Pair]:
    """Pairs of positions in ``facts``; of equal pictures each is paired with the first only.

    Whether two images are a pair depends on these two and on nothing that came later.
    """
    first: dict[str, int] = {}
    pairs = []
    for position, fact in enumerate(facts):
        if isinstance(fact, Facts):
            founder = first.setdefault(fact.pixel_sha256, position)
            if founder != position:
                pairs.append(Pair(founder, position, 0, 0.0, True))
    positions = list(first.values())
    hashes = np.array([facts[i].phash for i in positions], np.uint64)
    thumbs = np.array([facts[i].thumb for i in positions], np.uint8).reshape(
        -1, fingerprints.THUMB, fingerprints.THUMB, 3
    )
    for pair in duplicates.find_pairs(hashes, thumbs, rule):
        pairs.append(Pair(positions[pair.a], positions[pair.b], pair.distance, pair.difference, pair.same))
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


def judge(index: list[dict], facts: list[Facts | tuple[str, str]], pairs: list[Pair], *, min_side: int) -> list[dict]:
    """One verdict for each row of ``index``; pure."""
    groups = Groups(len(index))
    groups.join_all((pair.a, pair.b) for pair in pairs)
    rows = []
    for position, (row, fact) in enumerate(zip(index, facts, strict=True)):
        verdict = {name: row[name] for name in manifest.VERDICTS.names if name in row}
        verdict |= dict.fromkeys(name for name in manifest.VERDICTS.names if name not in row)
        if isinstance(fact, Facts):
            verdict |= {
                "width": fact.width, "height": fact.height, "mode": fact.mode, "format": fact.format,
                "pixel_sha256": fact.pixel_sha256, "phash": f"{fact.phash:016x}",
                "group": index[groups.founder(position)]["sha256"],
            }  # fmt: skip
        verdict["verdict"], verdict["reason"], verdict["detail"] = _alone(row, fact, min_side)
        rows.append(verdict)
    _reject_twins(rows, pairs)
    return rows


def _alone(row: dict, fact: Facts | tuple[str, str], min_side: int) -> tuple[str, str | None, str | None]:
    """Verdict, reason and detail of an image by itself."""
    if not row["member"]:
        return "withdrawn", "withdrawn", "not in the source any more"
    if not isinstance(fact, Facts):
        return "rejected", *fact
    if min(fact.width, fact.height) < min_side:
        return "rejected", "too_small", f"{fact.width} x {fact.height} px, the shorter side must have {min_side}"
    return "kept", None, None


def _reject_twins(rows: list[dict], pairs: list[Pair]) -> None:
    """Of equal pictures keep the larger one, of equally large ones the earlier one.

    Only a kept picture can cast another out, so that a chain of small steps does not empty a series.
    """
    classes: dict[str, list[int]] = {}  # by what is shown; files of one content count as one picture too
    by_bytes: dict[str, str] = {}
    for position, row in enumerate(rows):
        if row["verdict"] == "kept":
            shown = by_bytes.setdefault(row["sha256"], row["pixel_sha256"])
            classes.setdefault(shown, []).append(position)
    edges: dict[str, dict[str, Pair]] = {}
    for pair in pairs:
        one, other = rows[pair.a]["pixel_sha256"], rows[pair.b]["pixel_sha256"]
        if pair.same and one != other:
            edges.setdefault(one, {})[other] = pair
            edges.setdefault(other, {})[one] = pair
    kept: set[str] = set()
    by_size = sorted(classes, key=lambda shown: (-_area(rows[classes[shown][0]]), classes[shown][0]))
    for shown in by_size:
        near = [(pair.distance, pair.difference, classes[other][0], pair)
                for other, pair in edges.get(shown, {}).items() if other in kept]  # fmt: skip
        if not near:
            kept.add(shown)
            first = classes[shown][0]
            for copy in classes[shown][1:]:
                how = "bytes" if rows[copy]["sha256"] == rows[first]["sha256"] else "pixels"
                _reject(rows, copy, first, "duplicate", f"the same {how} as {rows[first]['source_key']}", 0, 0.0)
            continue
        distance, difference, twin, _ = min(near, key=lambda found: found[:3])
        detail = f"{distance} of 64 bits and at most {difference:.3f} of colour apart from {rows[twin]['source_key']}"
        for position in classes[shown]:
            _reject(rows, position, twin, "near_duplicate", detail, distance, difference)


def _reject(
    rows: list[dict], position: int, twin: int, reason: str, detail: str, distance: int, difference: float
) -> None:
    rows[position] |= {
        "verdict": "rejected", "reason": reason, "detail": detail, "twin": rows[twin]["sha256"],
        "twin_arrival": rows[twin]["arrival"], "distance": distance, "difference": difference,
    }  # fmt: skip


def _area(row: dict) -> int:
    return row["width"] * row["height"]


def _pairs_table(index: list[dict], pairs: list[Pair]):
    columns = {
        "a": [index[pair.a]["arrival"] for pair in pairs], "b": [index[pair.b]["arrival"] for pair in pairs],
        "distance": [pair.distance for pair in pairs], "difference": [pair.difference for pair in pairs],
        "same": [pair.same for pair in pairs],
    }  # fmt: skip
    return manifest.table(columns, manifest.PAIRS)
