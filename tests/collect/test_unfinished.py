"""A collection that is killed: the next one goes on behind its whole shards, and ends in the same bytes."""

import functools
import json
import os
import shutil

import pytest
from data_fixtures import digests, folder, gather, index, png, tarred
from killing import killed_at

from components.collect import ledger, stage
from components.collect.unfinished import NAME
from components.samples import shards

FILES = {f"{at % 3}/{at:02d}.png": png(at % 9, 24) for at in range(14)} | {"no.png": b"", "readme": b"x"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Two images a shard."""
    writer = functools.partial(shards.ShardWriter, shard_bytes=2 * len(png(0, 24)) - 200)
    monkeypatch.setattr(stage.shards, "ShardWriter", writer)


@pytest.fixture
def read(monkeypatch):
    """The keys of the images that were read."""
    keys, real = [], stage._Taker._read

    def counted(self, part, items, memory):
        for item, data in real(self, part, items, memory):
            keys.append(item.key)
            yield item, data

    monkeypatch.setattr(stage._Taker, "_read", counted)
    return keys


def project(root, kind):
    root.mkdir(exist_ok=True)
    folder(root, FILES) if kind == "folder" else tarred(root / "source", FILES, "w")
    return root


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_what_was_whole_is_kept_and_the_end_is_the_same(tmp_path, read, kind):
    whole = project(tmp_path / "whole", kind)
    wanted = gather(whole), digests(whole / "data/raw")
    assert len(shards.present(whole / "data/raw")) == 5
    all_of_them, kept = list(read), set()
    for step in range(1, 99, 5):
        root = project(tmp_path / str(step), kind)
        if not killed_at(step, root / "data/raw", lambda: gather(root)):  # noqa: B023
            break
        written = (root / "data/raw/index.parquet").exists() and index(root)
        left = 0 if written else len(shards.present(root / "data/raw"))
        read.clear()
        assert (gather(root), digests(root / "data/raw")) == wanted, step
        assert len(read) <= len(all_of_them) - 2 * max(left - 1, 0), f"killed before change {step}"
        kept.add(left)
        assert not (root / ".stillroom/collect" / NAME).exists()
    assert len(kept) > 3, "killed between the shards"


def stopped(root, after, **changes):
    """A collection that ends without a word when ``after`` shards are whole."""
    real = stage.Unfinished.keep

    def keep(self, whole):
        real(self, whole)
        if len(shards.present(root / "data/raw")) >= after:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(stage.Unfinished, "keep", keep)
        gather(root, **changes)
    assert len(shards.present(root / "data/raw")) == after


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("notes", ["keep", "strip"])
def test_it_goes_on_as_often_as_it_is_killed(tmp_path, read, notes):
    root = project(tmp_path / "a", "folder")
    for after in (1, 2, 4):
        stopped(root, after, notes=notes)
    read.clear()
    gather(root, notes=notes)
    assert len(read) < 5
    whole = project(tmp_path / "b", "folder")
    gather(whole, notes=notes)
    assert digests(root / "data/raw") == digests(whole / "data/raw")


def test_a_refresh_that_is_killed_goes_on_too(tmp_path, read):
    roots = [project(tmp_path / name, "folder") for name in "ab"]
    for root in roots:
        gather(root)
        for at in range(20, 30):
            (root / f"source/new{at}.png").write_bytes(png(at, 24))
    stopped(roots[0], 8)
    read.clear()
    gather(roots[0])
    assert 0 < len(read) < 10 and all(key.startswith("new") for key in read if key != "no.png")
    gather(roots[1])
    assert digests(roots[0] / "data/raw") == digests(roots[1] / "data/raw")


def stop(*_):
    raise Stopped


def at_the_second_call(real):
    calls = []
    return lambda *arguments: stop() if calls else (calls.append(arguments), real(*arguments))


@pytest.mark.parametrize(
    ("where", "instead"),
    [("index.Refused.write", stop), ("index.Index.write", stop), ("ledger.write", at_the_second_call(ledger.write))],
)
def test_a_refresh_that_is_killed_while_the_tables_are_written_reads_nothing_again(tmp_path, read, where, instead):
    root = project(tmp_path, "folder")

    def again():
        for path in (root / "source").rglob("*"):
            os.utime(path, (1, 1))  # long settled: its hash is known from the look
        gather(root, cache=root / ".stillroom/collect/.looked.json")

    again()
    for at in range(20, 30):
        (root / f"source/new{at}.png").write_bytes(png(at, 24))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(f"components.collect.{where}", instead)
        again()
    read.clear()
    again()
    assert not read
    assert sum(row["member"] for row in index(root)) == len(FILES) - 1 + 10


@pytest.mark.parametrize("change", ["source", "withdrawn", "parameters", "index"])
def test_another_state_begins_anew(tmp_path, change):
    root, fresh = (project(tmp_path / name, "folder") for name in "ab")
    stopped(root, 3)
    changes = {}
    for each in (root, fresh):
        if change == "source":
            (each / "source/0/00.png").write_bytes(png(77, 24))
        elif change == "withdrawn":
            row = {"sha256": "0" * 64, "source": "s", "source_key": "k", "reason": "", "pairs": [],
                   **dict.fromkeys(("pixel_sha256", "phash", "width", "height"))}  # fmt: skip
            (each / "data").mkdir(exist_ok=True)
            (each / "data/withdrawn.jsonl").write_text(json.dumps(row) + "\n")
        elif change == "parameters":
            changes = {"licence": "MIT"}
        elif each is root:
            shutil.rmtree(each / "data/raw")
    gather(root, **changes), gather(fresh, **changes)
    assert digests(root / "data/raw") == digests(fresh / "data/raw")


@pytest.mark.parametrize("cut", range(0, 1200, 180))
def test_a_record_that_is_cut_off_or_damaged_costs_what_stood_behind_it(tmp_path, cut):
    root, fresh = (project(tmp_path / name, "folder") for name in "ab")
    stopped(root, 4)
    record = root / ".stillroom/collect" / NAME
    blob = record.read_bytes()
    record.write_bytes(blob[:cut] if cut % 360 else blob[:cut] + b"\xff" + blob[cut + 1 :])
    assert gather(root) == gather(fresh)
    assert digests(root / "data/raw") == digests(fresh / "data/raw")


def test_a_shard_that_is_gone_or_cut_is_written_again(tmp_path):
    root, fresh = (project(tmp_path / name, "folder") for name in "ab")
    gather(fresh)
    for harm in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])):
        shutil.rmtree(root / "data", ignore_errors=True)
        stopped(root, 4)
        harm(root / "data/raw/shard-00001.parquet")
        gather(root)
        assert digests(root / "data/raw") == digests(fresh / "data/raw")
        assert len(index(root)) == len(FILES) - 1, "all but the readme"
