"""What of a store is fetched, and how often, until its images lie in data/raw."""

from collections import Counter

import numpy as np
import pytest
from data_fixtures import gather, png, tarred, zipped

from components.collect.memory import MEMORY
from components.collect.sources import remote
from components.samples import shards

WEB = {"kind": "webdataset", "text_column": None, "label_column": None}


def kept(root):
    table = shards.read_index(root / "data/raw").to_pylist()
    return sorted(
        data for _, data in shards.read_bytes(root / "data/raw", [(row["shard"], row["row"]) for row in table])
    )


@pytest.fixture
def fetched(memory, monkeypatch):
    """How many bytes of each object were asked of a store that marks what it holds."""
    found = Counter()
    real = remote._Stream.readinto

    def counted(self, buffer):
        size = real(self, buffer)
        found[self._address] += size
        return size

    monkeypatch.setattr(remote._Stream, "readinto", counted)
    monkeypatch.setattr(remote, "_MARKS", ("created",))
    return found


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_tar_in_a_store_is_fetched_once(memory, fetched, tmp_path, mode, kind):
    files = {f"{n}.png": noise(n) for n in range(40)}
    blob = tarred(tmp_path / "made", files, mode).read_bytes()
    memory.pipe("/wds/0.tar", blob)
    source = WEB if kind == "webdataset" else {}
    gather(tmp_path, {**source, "location": "memory://wds/0.tar"}, cache=tmp_path / ".stillroom/collect" / MEMORY)
    assert kept(tmp_path) == sorted(files.values())
    # And its first megabyte twice more, by which it is told to be a tar in the look and in the stage.
    assert fetched.total() <= len(blob) + 2 * 2**20
    assert list(tmp_path.rglob("*.object*")) == []


def test_a_zip_in_a_store_is_fetched_once_whatever_the_order_of_its_names(memory, fetched, tmp_path):
    files = {f"{(n * 17) % 40}.png": noise(n) for n in range(40)}
    blob = zipped(tmp_path / "made", files).read_bytes()
    memory.pipe("/bucket/archive", blob)
    gather(tmp_path, {"location": "memory://bucket/archive"}, cache=tmp_path / ".stillroom/collect" / MEMORY)
    assert kept(tmp_path) == sorted(files.values())
    assert fetched.total() <= len(blob) + 3 * 2**20


def noise(seed):
    return png(seed) + np.random.default_rng(seed).bytes(100_000)
