"""Train, val and test by group of near-duplicates, decided in order of arrival and never again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
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

_QUARANTINE = pack.SPLITS.index("quarantine")


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
    names = rows["sha256"].take(seen)
    shares = {"train": params.train, "val": params.val, "test": params.test}
    found, founders = decide(names.to_pylist(), list(zip(*ends, strict=True)), salt=params.salt, shares=shares)
    inside = number >= 0
    members = {name: number[inside & (found == at)].tolist() for at, name in enumerate(pack.SPLITS)}
    groups = len(np.unique(founders[inside & (found != _QUARANTINE)]))
    _check(members, groups)
    table = {
        "arrival": arrivals, "sha256": names, "group": names.take(founders),
        "split": pa.DictionaryArray.from_arrays(found, pa.array(pack.SPLITS)).cast(pa.string()), "row": number,
    }  # fmt: skip
    with files.replacing_folder(splits) as folder:
        for name, numbers in members.items():
            pack.write_int32(folder / f"{name}.i32", numbers)
        manifest.write(folder / "splits.parquet", manifest.table(table, manifest.SPLITS))
    log.info("%s, of %d groups", ", ".join(f"{name} {len(rows):,}" for name, rows in members.items()), groups)
    return {
        **{name: len(numbers) for name, numbers in members.items()}, "groups": groups,
        "places": len(found), "quarantined_places": int((found == _QUARANTINE).sum()),
    }  # fmt: skip


def decide(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], *, salt: str, shares: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The split of each image, int8 (N,), a place in pack.SPLITS, and the position of its group's founder, (N,); pure.

    ``names`` (SHA-256) are in order of arrival, ``pairs`` positions in it, and ``shares`` those of train, val and test.

    The split of an image depends on those before it only.  It takes the split of the groups that it touches, and makes
    one group of them; when they lie in different splits it is quarantined, touches nothing and joins nothing; when it
    touches none it founds a group, whose split is a hash of its name.
    """
    earlier: dict[int, list[int]] = {}
    for one, other in pairs:
        earlier.setdefault(max(one, other), []).append(min(one, other))
    splits, founders = draw(names, salt=salt, shares=shares), np.arange(len(names))
    ends = sorted({end for pair in pairs for end in pair})  # no other image joins a group
    place = {position: at for at, position in enumerate(ends)}
    groups = Groups(len(ends))
    for position in sorted(earlier):
        touched = [other for other in earlier[position] if splits[other] != _QUARANTINE]
        found = {int(splits[other]) for other in touched}
        if len(found) > 1:
            splits[position] = _QUARANTINE
        elif found:
            splits[position] = found.pop()
            groups.join_all((place[other], place[position]) for other in touched)
    founders[ends] = [ends[groups.founder(at)] for at in range(len(ends))]
    return splits, founders


def draw(names: Sequence[str], *, salt: str, shares: dict[str, float]) -> np.ndarray:
    """The split, int8 (N,), a place in pack.SPLITS, of the group that each of ``names`` founds; ``shares`` add to 1."""
    salted = hashlib.sha256(f"{salt}:".encode())
    digests = bytearray()
    for name in names:
        digest = salted.copy()
        digest.update(name.encode())
        digests += b"\0\0" + digest.digest()[:6]
    points = np.frombuffer(digests, ">u8").astype(np.float64) / 2**48
    found = np.searchsorted(np.cumsum(list(shares.values())), points, side="right")
    found[found >= len(shares)] = 0  # the shares fell short of 1 by a rounding
    return found.astype(np.int8)


def _rows_of_pack(rows: pa.Table, verdicts: Path, pixels: Path) -> np.ndarray:
    """Each verdict's row of the pack, -1 when it has none."""
    kept = pa.compute.equal(rows["verdict"], "kept").to_numpy()
    if "".join(rows["sha256"].filter(pa.array(kept)).to_pylist()) != pack.read_digits(pixels):
        raise UserError(f"{pixels}: does not hold what {verdicts} keeps: run stage 'resize' again")
    return np.where(kept, np.cumsum(kept) - 1, -1)


def _check(members: dict[str, list[int]], groups: int) -> None:
    for name in ("train", "val", "test"):
        if not members[name]:
            raise UserError(
                f"split '{name}' is empty: {groups} groups of near-duplicates are too few for these shares; "
                "add images, or change section 'split' of params.yaml"
            )
