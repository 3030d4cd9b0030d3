"""What the search past the first images finds, of what it finds among them: python benchmarks/recall.py TAR [COUNT]

The first COUNT images of the tar (20,000 unless given), searched as the first 100,000 are, and then with that bound
lowered, so that most of them are searched as are those past 100,000: in four, eight and sixteen times as many buckets
and lists of which so many more are looked into as docs/data.md says.  CPU seconds are of one process.
"""

from __future__ import annotations

import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers

from components.base import parallel
from components.clean import fingerprints, lists, rough, verify, windows

RADIUS = {"drawings, 32 bits": 32, "the older rule, 64 bits": 64}


def main() -> None:
    """Print the table."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    parallel.ordered = lambda work, batches, **_: map(work, batches)  # in this process, so that all of it is counted
    thumbs = _thumbs(Path(sys.argv[1]), count)
    hashes = np.concatenate([fingerprints.hashes(thumbs[at : at + 1024]) for at in range(0, len(thumbs), 1024)])
    records, grey = windows.records(thumbs), rough.shrunk(thumbs)
    places, small = np.where(records["drawn"], -1, np.arange(len(thumbs))), np.zeros(len(thumbs), bool)
    searches: dict[str, Callable[[], np.ndarray]] = {
        "windows": lambda: windows.candidates(
            places, lambda at, one: records["waves"][at, one], grey.__getitem__, small, 0
        )
    }
    for name, radius in RADIUS.items():
        searches[name] = lambda radius=radius: verify.candidates(hashes, thumbs.__getitem__, 0, radius)
    bound, made = lists.FLAT, lists._LISTS
    print(f"{len(thumbs):,} images\n\n| search | past | candidates | recall | CPU s |\n|---|---|---|---|---|")
    for name, search in searches.items():
        whole: set[tuple[int, int]] = set()
        for shares in (None, 4, 16, 64):
            lists.FLAT = len(thumbs) // shares if shares else bound
            lists._LISTS = round(made * (lists.FLAT / bound) ** 0.5) if shares else made
            start = time.process_time()
            found = {(a, b) for a, b in search()[["a", "b"]].tolist()}
            spent = time.process_time() - start
            whole = whole or found
            share = len(found & whole) / max(1, len(whole))
            print(f"| {name} | {lists.FLAT:,} | {len(found):,} | {share:.3f} | {spent:.1f} |", flush=True)
    print(f"\n{peers.machine()}")


def _thumbs(path: Path, count: int) -> np.ndarray:
    parts: list[np.ndarray] = []
    batch: list[tuple[bytes, str]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith((".jpg", ".png")) and len(parts) * 1000 < count:
                batch.append((tar.extractfile(member).read(), "#ffffff"))
            if len(batch) == 1000:
                parts.append(fingerprints.examine(batch, max_pixels=10**7)["thumb"])
                batch = []
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
