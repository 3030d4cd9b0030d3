"""What stage `clean` takes in memory for each image that is known: python benchmarks/rows.py [COUNT ...]

Makes an index and the facts of COUNT images (60,000 and 300,000 unless given), noise that resembles nothing, runs the
stage on 99 % of them without searching, then measures it with the last 1 % new: search, verdicts, tables.  Facts are on
the disk (4 kB an image), in a temporary folder.  Memory is the most that the process holds, mapped files included, as
the kernel counts it; the workers, which hold a batch, are not in it.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import peers
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from components.base import config  # noqa: E402
from components.clean import fingerprints, verify, windows  # noqa: E402
from components.clean import known as facts_of  # noqa: E402
from components.clean.params import CleanParams  # noqa: E402
from components.clean.stage import clean  # noqa: E402
from components.samples import facts, manifest  # noqa: E402

COUNTS = (60_000, 300_000)
SOME = 8192
MEASURED = """
import resource, sys
from components.__main__ import main
code = main(["clean"]) if sys.argv[1] == "run" else __import__("components.clean.stage") and 0
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(code, int(high.split()[1]) * 1024, sum(each.ru_utime + each.ru_stime for each in used))
"""


def main() -> None:
    """Measure each count, print the table."""
    counts = [int(word.replace(",", "")) for word in sys.argv[1:]] or COUNTS
    start, _ = _measured(ROOT, "nothing")
    print("| images known | memory, MB | of it start-up | bytes an image |\n|---|---|---|---|")
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            _made(root, count)
            held, _ = _measured(root, "run")
        found.append((count, held))
        print(f"| {count:,} | {held / 1e6:,.0f} | {start / 1e6:,.0f} | {(held - start) / count:,.0f} |", flush=True)
    for (few, one), (many, other) in itertools.pairwise(found):
        print(f"\nEach image from {few:,} to {many:,}: {(other - one) / (many - few):,.0f} bytes")
    print(f"\n{peers.machine()}")


def _measured(root: Path, what: str) -> tuple[int, float]:
    """Bytes held at most and CPU seconds of the stage in ``root``."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED, what], cwd=root, env=env, capture_output=True, text=True,
                          check=True)  # fmt: skip
    code, held, spent = done.stdout.split()
    assert code == "0", done.stderr
    return int(held), float(spent)


def _made(root: Path, count: int) -> None:
    """The project of ``count`` images in ``root``, of which 99 % have been through the stage."""
    sections = config.read(ROOT / config.FILE)
    (root / config.FILE).write_text(json.dumps(sections))
    (root / "data/raw").mkdir(parents=True)
    for name in ("withdrawn", "decisions"):
        (root / f"data/{name}.jsonl").touch()
    table = _index(count)
    params = config.section(sections, "clean", CleanParams)
    _facts(root / ".stillroom/facts", table, params.max_pixels)
    few = table.slice(0, count * 99 // 100)
    searches = verify.candidates, windows.candidates
    verify.candidates = lambda *_: np.empty(0, verify.CANDIDATE)
    windows.candidates = lambda *_: np.empty(0, windows.NEAR)
    manifest.write(root / "data/raw/index.parquet", few)
    paths = {name: root / f"data/{name}" for name in ("raw", "withdrawn.jsonl", "decisions.jsonl", "clean")}
    clean(params, raw=paths["raw"], withdrawn=paths["withdrawn.jsonl"], decisions=paths["decisions.jsonl"],
          verdicts=paths["clean"], facts=root / ".stillroom/facts")  # fmt: skip
    verify.candidates, windows.candidates = searches
    manifest.write(root / "data/raw/index.parquet", table)


def _index(count: int) -> pa.Table:
    numbers = range(count)
    names = np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8).tobytes().hex()
    columns = {
        "arrival": numbers, "sha256": [names[64 * at : 64 * at + 64] for at in numbers], "source": ["noise"] * count,
        "source_key": [f"train/{at % 10}/{at:08d}.jpg" for at in numbers], "text": [None] * count,
        "label": [str(at % 10) for at in numbers], "licence": ["unknown"] * count, "group_key": [None] * count,
        "matte": ["#ffffff"] * count, "size": [900 + at % 100 for at in numbers],
        "shard": [f"shard-{at >> 17:05d}.parquet" for at in numbers], "row": [at & (1 << 17) - 1 for at in numbers],
        "member": [True] * count, "withdrawn": [False] * count,
    }  # fmt: skip
    return manifest.table(columns, manifest.INDEX)


def _facts(folder: Path, index: pa.Table, max_pixels: int) -> None:
    names, prints = {"max_pixels": max_pixels}, [fingerprints.ALGORITHM]
    kinds = (("image", facts_of.DETAILS), ("thumb", facts_of.THUMB))
    stores = [facts.Store(folder, kind, facts.rule(names, algorithms=prints, dtype=dtype), dtype)
              for kind, dtype in kinds]  # fmt: skip
    for start in range(0, len(index), SOME):
        some = index.slice(start, SOME)
        keys = facts.image_keys(some["sha256"], some["matte"])
        random = np.random.default_rng(start)
        details, thumbs = np.zeros(len(some), facts_of.DETAILS), np.zeros(len(some), facts_of.THUMB)
        details["width"] = details["height"] = 32
        details["mode"], details["format"] = b"RGB", b"JPEG"
        details["pixels"] = random.integers(0, 256, (len(some), 32), np.uint8)
        thumbs["thumb"] = random.integers(0, 256, thumbs["thumb"].shape, np.uint8)
        details["phash"] = fingerprints.hashes(thumbs["thumb"])
        for store, records in zip(stores, (details, thumbs), strict=True):
            store.add(keys, records)


if __name__ == "__main__":
    main()
