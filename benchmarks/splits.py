"""What moves and what leaks when a data set grows: python benchmarks/splits.py FOLDER

FOLDER is what `python benchmarks/refresh.py ARCHIVE --keep FOLDER` has left: its images and the pairs that stage
clean found in them.  They arrive in the order of their hashes, half of them at first and then in four equal steps.
"""

from __future__ import annotations

import hashlib
import random
import sys
from itertools import pairwise
from pathlib import Path

import peers
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from components.base.grouping import Groups
from components.samples.pack import SPLITS
from components.split.stage import decide, draw

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SALT = "stillroom"
STEPS = 4

Pairs = list[tuple[int, int]]


def main() -> None:
    """Print a row for each way of splitting."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    names, pairs = _read(Path(sys.argv[1]))
    sizes = [len(names) * (STEPS + step) // (2 * STEPS) for step in range(STEPS + 1)]
    print(f"{sizes[0]:,} images grow to {sizes[-1]:,} in {STEPS} steps; {len(pairs):,} pairs look alike\n")
    print("| split by | old images moved at a step | leaking pairs at the end | quarantined at the end |")
    print("|---|---|---|---|")
    ways = {"a new draw": at_random, "hash of the image": by_name, "hash of the group": by_group, "Stillroom": ours}
    for title, way in ways.items():
        states = [way(names[:size], [pair for pair in pairs if max(pair) < size]) for size in sizes]
        moved = [sum(old != new for old, new in zip(one, other, strict=False))
                 for one, other in pairwise(states)]  # fmt: skip
        last = states[-1]
        leaks = sum(last[a] != last[b] and "quarantine" not in (last[a], last[b]) for a, b in pairs)
        held = last.count("quarantine")
        moves = f"{min(moved):,} to {max(moved):,}" if any(moved) else "0"
        print(f"| {title} | {moves} | {leaks:,} | {held:,} ({held / len(last):.3%}) |")
    print(f"\n{peers.machine()}")


def at_random(names: list[str], pairs: Pairs) -> list[str]:
    """Shuffle all, cut at 80 and 90 %."""
    order = list(range(len(names)))
    random.Random(len(names)).shuffle(order)
    split = [""] * len(names)
    for rank, position in enumerate(order):
        share = rank / len(names)
        split[position] = "train" if share < 0.8 else "val" if share < 0.9 else "test"
    return split


def by_name(names: list[str], pairs: Pairs) -> list[str]:
    """Each image for itself."""
    return [SPLITS[at] for at in draw(names, salt=SALT, shares=SHARES)]


def by_group(names: list[str], pairs: Pairs) -> list[str]:
    """All of a group by the hash of its members' names."""
    groups = Groups(len(names))
    groups.join_all(pairs)
    members: dict[int, list[str]] = {}
    for position, name in enumerate(names):
        members.setdefault(groups.founder(position), []).append(name)
    called = {founder: hashlib.sha256("".join(sorted(some)).encode()).hexdigest() for founder, some in members.items()}
    return by_name([called[groups.founder(position)] for position in range(len(names))], [])


def ours(names: list[str], pairs: Pairs) -> list[str]:
    """In order of arrival: inherit, found, or be quarantined."""
    return [SPLITS[at] for at in decide(names, pairs, salt=SALT, shares=SHARES)[0]]


def _read(folder: Path) -> tuple[list[str], Pairs]:
    rows = pq.read_table(folder / "data/clean/verdicts.parquet", columns=["arrival", "sha256"]).to_pydict()
    order = sorted(zip(rows["sha256"], rows["arrival"], strict=True))
    position = {arrival: at for at, (_, arrival) in enumerate(order)}
    table = pq.read_table(folder / "data/clean/pairs.parquet", columns=["a", "b"]).to_pydict()
    pairs = [(position[a], position[b]) for a, b in zip(table["a"], table["b"], strict=True)]
    return [name for name, _ in order], pairs


if __name__ == "__main__":
    main()
