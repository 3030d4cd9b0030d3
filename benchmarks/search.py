"""Duplicate search against imagededup: the same 64-bit hashes, the same pairs, CPU seconds.

    PYTHONPATH=. python benchmarks/search.py TAR_OF_IMAGES

Both search the PHash codes that imagededup makes of the images, for pairs at most 10 bits apart.  What would take the
peer minutes is extrapolated from 10,000, by the square: it compares all with all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import peers

from components.clean import search

SIZES = (10_000, 20_000, 60_000)
MEASURED = 10_000  # hashes: beyond, the peer is extrapolated
RADIUS = 10
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
import json, sys, time
from imagededup.methods import PHash
codes = json.load(open(sys.argv[1]))[: int(sys.argv[2])]
named = {str(at): code for at, code in enumerate(codes)}
hasher = PHash(verbose=False)
start = time.process_time()
import resource
before = resource.getrusage(resource.RUSAGE_CHILDREN)
found = hasher.find_duplicates(encoding_map=named, max_distance_threshold=10, scores=True, search_method=sys.argv[4],
                               num_dist_workers=0)
after = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = time.process_time() - start + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
pairs = sorted({(min(int(a), int(b)), max(int(a), int(b))) for a, others in found.items() for b, _ in others})
json.dump(pairs, open(sys.argv[3], "w"))
print(spent)
"""


def main() -> None:
    """Print the table."""
    interpreter = peers.python("imagededup", "imagededup==0.3.3.post2", "imagehash")
    cache = peers.PEERS / "hashes.json"
    if not cache.is_file():
        peers.run(interpreter, HASH, sys.argv[1], str(cache), str(max(SIZES)))
    named = json.loads(cache.read_text("utf-8"))
    codes = np.frombuffer(bytes.fromhex("".join(named)), np.uint8).reshape(-1, 8)
    search.within(codes[:9], codes[:9], 1)  # imports are not counted, neither here nor there
    print("| search | imagededup, s | here, s | ratio | pairs |\n|---|---|---|---|---|")
    method = sys.argv[2] if len(sys.argv) > 2 else "brute_force_cython"
    theirs, ours = {}, {}
    for size in SIZES:
        ours[size], found = _timed(lambda size=size: search.join(codes[:size], RADIUS))
        told = f"{len(found):,}"
        if size <= MEASURED:
            theirs[size], pairs = _theirs(interpreter, cache, size, method)
            told += " = theirs" if pairs == set(zip(found.a.tolist(), found.b.tolist(), strict=True)) else " NOT THEIRS"
            said = f"{theirs[size]:.1f}"
        else:
            theirs[size] = theirs[MEASURED] * (size / MEASURED) ** 2
            said = f"{theirs[size]:.0f} (by the square of {MEASURED:,})"
            flat = search.within(codes[:size], codes[:size], RADIUS)
            assert len(flat.where(flat.a < flat.b)) == len(found), "not the pairs of a search that looks at every pair"
        print(
            f"| {size:,} hashes, all pairs | {said} | {ours[size]:.3f} | {theirs[size] / ours[size]:,.0f} | {told} |",
            flush=True,
        )
    spent, found = _timed(lambda: search.within(codes[-1000:], codes[:-1000], RADIUS))
    print(f"| 1,000 new against {len(codes) - 1000:,} | cannot | {spent:.3f} | | {len(found):,} |")
    print(f"\n20,000 to 60,000: {ours[60_000] / ours[20_000]:.1f} times.  {peers.machine()}")


def _timed(work: object) -> tuple[float, search.Matches]:
    """The median of five, CPU seconds."""
    times = []
    for _ in range(5):
        start = time.process_time()
        found = work()
        times.append(time.process_time() - start)
    return float(np.median(times)), found


def _theirs(interpreter: Path, cache: Path, size: int, method: str) -> tuple[float, set[tuple[int, int]]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pairs.json"
        spent = peers.run(interpreter, FIND, str(cache), str(size), str(out), method)
        return spent, {tuple(pair) for pair in json.loads(out.read_text("utf-8"))}


if __name__ == "__main__":
    main()
