"""Duplicate search against imagededup: what `clean` runs, CPU seconds.

    PYTHONPATH=. python benchmarks/search.py TAR_OF_IMAGES

Both sides start with the hashes of the images (benchmarks/hashing.py times those).  The peer compares its 64-bit
hashes for pairs at most 10 bits apart.  Here `verify.candidates` compares 256 bits in 8 orientations for pairs at most
64 bits apart, as stage `clean` does with the values for photographs, and `verify.verify` then looks at each of them.
A refresh brings 1,000 new images: here only these are searched for, the peer compares all with all again.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers

from components.base import parallel
from components.clean import fingerprints, verify
from components.clean.verify import Look, Rule

SIZES = (5_000, 10_000)
NEW = 1_000
RULE = Rule(max_distance=64, max_difference=0.06, min_correlation=0.8, min_inliers=12)
_BATCH = 256  # pairs, as in components/clean/pairs.py
HASH = """
import io, json, sys, tarfile
import numpy as np
from PIL import Image
from imagededup.methods import PHash
hasher, codes = PHash(verbose=False), []
with tarfile.open(sys.argv[1]) as tar:
    for member in tar:
        if member.isfile() and member.name.endswith((".jpg", ".png")) and len(codes) < int(sys.argv[3]):
            image = np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
            codes.append(hasher.encode_image(image_array=image))
json.dump(codes, open(sys.argv[2], "w"))
print(len(codes))
"""
FIND = """
import json, resource, sys, time
from imagededup.methods import PHash
codes = json.load(open(sys.argv[1]))[: int(sys.argv[2])]
named = {str(at): code for at, code in enumerate(codes)}
hasher = PHash(verbose=False)
start = time.process_time()
before = resource.getrusage(resource.RUSAGE_CHILDREN)
found = hasher.find_duplicates(encoding_map=named, max_distance_threshold=10, scores=True, num_dist_workers=0,
                               search_method="brute_force_cython")
after = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = time.process_time() - start + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps([spent, len({frozenset((a, b)) for a, others in found.items() for b, _ in others})]))
"""


def main() -> None:
    """Print the table."""
    interpreter = peers.python("imagededup", "imagededup==0.3.3.post2", "imagehash")
    parallel.ordered = lambda work, batches, **_: map(work, batches)  # in this process, so that all of it is counted
    hashes, thumbs = _prints(Path(sys.argv[1]), max(SIZES))
    verify.candidates(
        hashes[:9], thumbs.__getitem__, 0, RULE.max_distance
    )  # imports are not counted, neither here nor there
    print("| search | imagededup, s | here, s | ratio | pairs there | candidates here | pairs here |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "hashes.json"
        peers.run(interpreter, HASH, sys.argv[1], str(cache), str(max(SIZES)))
        for size in SIZES:
            theirs, count = peers.run(interpreter, FIND, str(cache), str(size))
            _row(f"{size:,} images, all pairs", theirs, f"{count:,}", hashes[:size], thumbs[:size], 0)
    since = max(SIZES) - NEW
    _row(f"{NEW:,} new to {since:,}", theirs, "the same", hashes, thumbs, since)
    print(f"\n{peers.machine()}")


def _row(name: str, theirs: float, count: str, hashes: np.ndarray, thumbs: np.ndarray, since: int) -> None:
    spent, found = _timed(lambda: verify.candidates(hashes, thumbs.__getitem__, since, RULE.max_distance))
    more, kept = _timed(lambda: _verified(found, thumbs))
    ours = spent + more
    print(
        f"| {name} | {theirs:.1f} | {ours:.2f} | {theirs / ours:.1f} | {count} | {len(found):,} | {kept:,} |",
        flush=True,
    )


def _prints(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and thumbnails of the first ``count`` images of the tar."""
    batch: list[tuple[bytes, str]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            if len(batch) < count and member.isfile() and member.name.endswith((".jpg", ".png")):
                batch.append((tar.extractfile(member).read(), "#ffffff"))
    found = fingerprints.examine(batch, max_pixels=10**7)
    return found["phash"], found["thumb"]


def _verified(found: np.ndarray, thumbs: np.ndarray) -> int:
    """How many of the candidates are pairs; the images are small, so no corners are looked for."""
    looks = [Look(thumb, 32, 32) for thumb in thumbs]
    batch = [(looks[a], looks[b], turn, bits) for a, b, turn, bits in found.tolist()]
    return sum(
        int(verify.verify(batch[at : at + _BATCH], rule=RULE)["found"].sum()) for at in range(0, len(batch), _BATCH)
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The median of three, CPU seconds."""
    times = []
    for _ in range(3):
        start = time.process_time()
        found = work()
        times.append(time.process_time() - start)
    return float(np.median(times)), found


if __name__ == "__main__":
    main()
