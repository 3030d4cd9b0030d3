"""Train, val and test by group of near-duplicates, decided in order of arrival and never again."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from components.base import files
from components.base.errors import UserError
from components.base.grouping import Groups
from components.samples import manifest, pack
from components.split.params import SplitParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What an image is assigned to: a split (train, val, test or quarantine) and a group.

    ``founder`` is the position of the first image of the group.
    """

    split: str
    founder: int


def split(params: SplitParams, *, verdicts: Path, pixels: Path, splits: Path) -> dict[str, float]:
    """Put every group of near-duplicates into train, val or test; data that comes later moves none."""
    rows = manifest.read(
        verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean",
        columns=["arrival", "sha256", "verdict", "phash"],
    )  # fmt: skip
    pairs = manifest.read(verdicts / "pairs.parquet", manifest.PAIRS, stage="clean", columns=["a", "b"])
    number = _rows_of_pack(rows, verdicts, pixels)
    # Rejected and withdrawn images keep their assignments too: they hold together what came before and after.
    seen = np.flatnonzero(rows["phash"].is_valid().to_numpy())
    arrivals, number = rows["arrival"].to_numpy()[seen], number[seen]
    ends = [np.searchsorted(arrivals, pairs[end].to_numpy()).tolist() for end in ("a", "b")]
    names = rows["sha256"].take(seen).to_pylist()
    shares = {"train": params.train, "val": params.val, "test": params.test}
    assignments = decide(names, list(zip(*ends, strict=True)), salt=params.salt, shares=shares)
    splits_of, founders = [each.split for each in assignments], [each.founder for each in assignments]
    found, inside = np.array(splits_of, object), number >= 0
    members = {name: number[inside & (found == name)].tolist() for name in pack.SPLITS}
    groups = set(np.array(founders)[inside & (found != "quarantine")].tolist())
    _check(members, len(groups))
    table = {
        "arrival": arrivals, "sha256": names, "group": [names[founder] for founder in founders],
        "split": splits_of, "row": number,
    }  # fmt: skip
    with files.replacing_folder(splits) as folder:
        for name, numbers in members.items():
            pack.write_int32(folder / f"{name}.i32", numbers)
        manifest.write(folder / "splits.parquet", manifest.table(table, manifest.SPLITS))
    sizes = Counter(splits_of)
    log.info("%s, of %d groups", ", ".join(f"{name} {len(rows):,}" for name, rows in members.items()), len(groups))
    return {
        **{name: len(numbers) for name, numbers in members.items()}, "groups": len(groups),
        "places": len(assignments), "quarantined_places": sizes["quarantine"],
    }  # fmt: skip


def decide(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], *, salt: str, shares: dict[str, float]
) -> list[Assignment]:
    """The assignment of each image, ``names`` (SHA-256) being in order of arrival and ``pairs`` positions in it; pure.

    The assignment of an image depends on those before it only.  It takes the split of the groups that it touches,
    and makes one group of them; when they lie in different splits it is quarantined, touches nothing and
    joins nothing; when it touches none it founds a group, whose split is a hash of its name.
    """
    earlier: list[list[int]] = [[] for _ in names]
    for one, other in pairs:
        earlier[max(one, other)].append(min(one, other))
    groups = Groups(len(names))
    splits: list[str] = []
    for position, name in enumerate(names):
        touched = [other for other in earlier[position] if splits[other] != "quarantine"]
        found = {splits[other] for other in touched}
        if len(found) > 1:
            splits.append("quarantine")
            continue
        splits.append(found.pop() if found else draw(name, salt=salt, shares=shares))
        groups.join_all((other, position) for other in touched)
    return [Assignment(split, groups.founder(position)) for position, split in enumerate(splits)]


def draw(name: str, *, salt: str, shares: dict[str, float]) -> str:
    """The split that a group founded by ``name`` falls into; ``shares`` add up to 1."""
    digest = hashlib.sha256(f"{salt}:{name}".encode()).digest()
    point, reached = int.from_bytes(digest[:6], "big") / 2**48, 0.0
    for split_name, share in shares.items():
        reached += share
        if point < reached:
            return split_name
    return next(iter(shares))  # the shares fell short of 1 by a rounding


def _rows_of_pack(rows: pa.Table, verdicts: Path, pixels: Path) -> np.ndarray:
    """Each verdict's row of the pack, -1 when it has none."""
    kept = pa.compute.equal(rows["verdict"], "kept").to_numpy()
    if rows["sha256"].filter(pa.array(kept)).to_pylist() != pack.read_keys(pixels):
        raise UserError(f"{pixels}: does not hold what {verdicts} keeps: run stage 'resize' again")
    return np.where(kept, np.cumsum(kept) - 1, -1)


def _check(members: dict[str, list[int]], groups: int) -> None:
    for name in ("train", "val", "test"):
        if not members[name]:
            raise UserError(
                f"split '{name}' is empty: {groups} groups of near-duplicates are too few for these shares; "
                "add images, or change section 'split' of params.yaml"
            )
