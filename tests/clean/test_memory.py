"""What clean holds of each image stays below 1 kB: columns, no objects, and no pictures but those at hand."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from components.base import parallel
from components.clean import fingerprints, judge, known, pairs, rough, verify, windows
from components.clean.verify import Rule
from components.samples import facts, manifest

MOST = 1000  # bytes an image
FEW, MANY = 2_000, 8_000
POOLS: list[pa.MemoryPool] = []
"""They must outlive what was allocated from them."""
AUTO = Rule(max_distance="auto", max_difference=0.06, min_correlation="auto", min_inliers=12)


def index(count):
    names = np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8).tobytes().hex()
    columns = {
        "arrival": range(count), "sha256": [names[64 * at : 64 * at + 64] for at in range(count)],
        "source": ["noise"] * count, "source_key": [f"{at:08d}.jpg" for at in range(count)], "text": [None] * count,
        "label": ["a"] * count, "licence": ["unknown"] * count, "group_key": [None] * count,
        "matte": ["#ffffff"] * count, "size": range(count), "shard": ["shard-00000.parquet"] * count,
        "row": range(count), "member": [True] * count, "withdrawn": [False] * count,
    }  # fmt: skip
    return manifest.table(columns, manifest.INDEX)


def remembered(folder, table):
    """Facts of images that are noise; no thumbnails: the pictures are not looked at."""
    random = np.random.default_rng(1)
    details = np.zeros(len(table), known.DETAILS)
    details["width"] = details["height"] = 32
    details["mode"], details["format"] = b"RGB", b"JPEG"
    details["pixels"] = random.integers(0, 256, (len(table), 32), np.uint8)
    keys = facts.image_keys(table["sha256"], table["matte"])
    for kind, records in (("image", details), ("thumb", np.zeros(len(table), known.THUMB))):
        rule = facts.rule({"max_pixels": 100}, algorithms=[fingerprints.ALGORITHM], dtype=records.dtype)
        facts.Store(folder, kind, rule, records.dtype).add(keys, records)


def verdicts(folder, table):
    held = known.Known(table, raw=folder, folder=folder, max_pixels=100)
    whole = held.details["width"] > 0
    equal, firsts = pairs.equal(held, whole)
    none = np.zeros(len(table), bool)
    found = [equal, pairs.alike(held, firsts, none, AUTO, folder), pairs.named(table, whole)]
    flags = {"barred": none, "cast_out": none, "held": none}
    return judge.judge(table, held.details, held.words, np.concatenate(found), **flags, min_side=8)


def held_at_most(work):
    """Bytes of arrays, objects and columns that ``work`` held at once."""
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        found = work()
        return tracemalloc.get_traced_memory()[1] + pool.max_memory(), found
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def test_an_image_takes_less_than_a_kilobyte(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "candidates", lambda *_: np.empty(0, verify.CANDIDATE))
    monkeypatch.setattr(windows, "candidates", lambda *_: np.empty(0, windows.NEAR))
    for module in (known, facts, judge, windows, rough):
        monkeypatch.setattr(module, "_SOME", 256)
    monkeypatch.setattr(known, "_ADDED", 256)
    taken = {}
    for count in (FEW, MANY):
        table = index(count)
        remembered(tmp_path / str(count), table)
        taken[count], found = held_at_most(lambda c=count, t=table: verdicts(tmp_path / str(c), t))
        assert len(found) == count
    assert (taken[MANY] - taken[FEW]) / (MANY - FEW) < MOST


def test_one_window_is_in_memory_at_a_time():
    """All 78 searches at once were 5 kB an image."""
    count = 4_000
    waves = np.random.default_rng(0).integers(-60, 60, (count, *windows.RECORD["waves"].shape), np.int8)

    def work():
        return sum(
            len(task.asked) for task in windows._tasks(np.arange(count), lambda at, one: waves[at, one], 3_900, 0)
        )

    assert held_at_most(work)[0] / count < MOST


@pytest.mark.parametrize("most", [7, 131_072])
def test_the_size_of_a_task_changes_no_pair(most, monkeypatch):
    monkeypatch.setattr(parallel, "ordered", lambda function, batches, **_: (function(batch) for batch in batches))
    monkeypatch.setattr(windows, "_NEAR", 0.4)
    waves = np.random.default_rng(2).integers(-60, 60, (300, *windows.RECORD["waves"].shape), np.int8)

    def found():
        return windows._best(windows._searched(np.arange(300), lambda at, one: waves[at, one], 200, 0))

    whole = found()
    assert len(whole) > 1000
    monkeypatch.setattr(windows, "_MOST", most)
    monkeypatch.setattr(windows, "_ROWS", 5)
    monkeypatch.setattr(windows, "_ASKED", most)
    np.testing.assert_array_equal(found(), whole)
