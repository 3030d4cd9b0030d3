"""Several sources of every kind: what is read again, what a refresh costs, and what is refused."""

import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
from data_fixtures import TOLD, digests, folder, gather, png, refused, zipped
from hypothesis import given, settings
from hypothesis import strategies as st

from components.base.errors import UserError
from components.collect.memory import MEMORY
from components.samples import shards

PARQUET = {"name": "hf", "kind": "parquet", "location": "hf", "image_column": "image"}
WEB = {"name": "wds", "kind": "webdataset", "location": "wds", "text_column": "txt", "label_column": "json.kind.name"}


def rows(root, *names):
    return [tuple(row[name] for name in names) for row in shards.read_index(root / "data/raw").to_pylist()]


def withdraw(root, *blobs):
    import hashlib

    unknown = {**dict.fromkeys(("pixel_sha256", "phash", "width", "height")), "pairs": []}
    lines = [json.dumps({"sha256": hashlib.sha256(blob).hexdigest(), **unknown}) + "\n" for blob in blobs]
    (root / "data").mkdir(exist_ok=True)
    (root / "data/withdrawn.jsonl").write_text("".join(lines))


def stored(root, blob):
    return any(blob in path.read_bytes() for path in (root / "data/raw").iterdir())


# Several at once, and what is read again.


def test_sources_arrive_in_the_order_of_params_yaml_each_with_its_own_licence_and_matte(tmp_path):
    folder(tmp_path, {"z.png": png(1)}, "one")
    zipped(tmp_path / "two.zip", {"a.png": png(2), "twin.png": png(1)})
    gather(tmp_path, {"name": "one", "location": "one"},
           {"name": "two", "location": "two.zip", "licence": "MIT", "matte": "#000000"})  # fmt: skip
    assert rows(tmp_path, "source", "source_key", "licence", "matte") == [
        ("one", "z.png", "CC0-1.0", "#ffffff"), ("two", "a.png", "MIT", "#000000"),
        ("two", "twin.png", "MIT", "#000000")
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "data/raw/shard-00000.parquet").num_rows == 2, "the same bytes are stored once"


def test_a_source_that_did_not_change_is_not_opened_again(tmp_path, monkeypatch):
    zipped(tmp_path / "one.zip", {"a.png": png(1), "b.pdf": b"%"})
    one, two = {"name": "one", "location": "one.zip"}, {"name": "two", "location": "two"}
    gather(tmp_path, one)
    folder(tmp_path, {"b.png": png(2), "README": b"x"}, "two")
    with monkeypatch.context() as patch:
        refuse_reading(patch, tmp_path / "one.zip")
        metrics = gather(tmp_path, one, two)
    assert (metrics["items"], metrics["refused"], metrics["ignored"]) == (2, 1, 1)
    before = digests(tmp_path / "data/raw")
    (tmp_path / "data/raw/collected.json").unlink()
    assert gather(tmp_path, one, two) == metrics
    assert digests(tmp_path / "data/raw") == before, "reading all of it gives the same"


def refuse_reading(patch, path):
    """From now on only ``look`` may open ``path``."""
    from components.collect.sources import zips

    def read(self, items):
        assert str(self.file) != str(path), "read again"
        return real(self, items)

    real = zips.Zip.read
    patch.setattr(zips.Zip, "read", read)


def test_only_new_files_of_a_folder_are_read(tmp_path, monkeypatch):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    for path in source.iterdir():
        os.utime(path, (1, 1))  # long settled
    cache = tmp_path / ".stillroom/collect" / MEMORY
    gather(tmp_path, cache=cache)
    (source / "c.png").write_bytes(png(3))
    os.utime(source / "c.png", (1, 1))
    asked = []
    monkeypatch.setattr(
        "components.collect.sources.folders.Folder.open", spy("components.collect.sources.folders.Folder.open", asked)
    )
    assert gather(tmp_path, cache=cache)["items"] == 3
    assert {item.key for item in asked} == {"c.png"}


def spy(name, asked):
    from components.collect.sources.folders import Folder

    real = Folder.open

    def opened(self, item):
        asked.append(item)
        return real(self, item)

    return opened


@pytest.mark.parametrize("change", [{"licence": "MIT"}, {"matte": "#000000"}, {"label_column": None}])
def test_what_params_yaml_says_of_an_unchanged_source_is_followed(tmp_path, change):
    folder(tmp_path, {"a/1.png": png(1), "metadata.csv": b"file_name,text,label\na/1.png,t,l\n"})
    gather(tmp_path, **TOLD)
    gather(tmp_path, **{**TOLD, **change})
    wanted = {"licence": "CC0-1.0", "matte": "#ffffff", "label": "l"} | change
    wanted |= {"label": "a"} if wanted.pop("label_column", "") is None else {}
    assert rows(tmp_path, *wanted) == [tuple(wanted.values())]


def test_a_source_that_is_gone_from_params_yaml_has_no_members(tmp_path):
    folder(tmp_path, {"a.png": png(1), "x.pdf": b"%"}, "one")
    folder(tmp_path, {"b.png": png(2)}, "two")
    one, two = ({"name": name, "location": name} for name in ("one", "two"))
    gather(tmp_path, one, two)
    gather(tmp_path, two)
    assert rows(tmp_path, "source", "member") == [("one", False), ("two", True)] and refused(tmp_path) == {}


@settings(max_examples=8)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), min_size=1), min_size=1, max_size=4))
def test_collecting_in_steps_that_only_add_gives_what_collecting_at_once_gives(tmp_path_factory, steps):
    """Each step is a source more; the names and pictures in them may be the same ones."""
    once, often = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("often")
    sources = [{"name": f"s{at}", "location": f"s{at}"} for at in range(len(steps))]
    for at, step in enumerate(steps):
        for root in (once, often):
            folder(root, {f"{name}.png": blob(seed) for name, seed in step.items()}, f"s{at}")
        gather(often, *sources[: at + 1])
    gather(once, *sources)
    columns = ("arrival", "source", "source_key", "sha256", "member", "size")
    assert rows(once, *columns) == rows(often, *columns)
    for root in (once, often):
        places = rows(root, "shard", "row")
        found = dict(shards.read_bytes(root / "data/raw", places))
        names = [(int(source[1:]), key[0]) for source, key in rows(root, "source", "source_key")]
        assert [found[at] for at in range(len(places))] == [blob(steps[at][name]) for at, name in names]


def blob(seed):
    return b"image %d" % seed


# Withdrawn by hand.


def test_the_bytes_of_a_withdrawn_image_are_gone_and_its_place_stays(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.png": png(2), "twin.png": png(2), "c.png": png(3)})
    gather(tmp_path)
    assert stored(tmp_path, png(2))
    withdraw(tmp_path, png(2))
    metrics = gather(tmp_path)
    assert not stored(tmp_path, png(2)) and stored(tmp_path, png(1)) and stored(tmp_path, png(3))
    indexed = rows(tmp_path, "source_key", "member", "withdrawn", "shard", "row")
    assert [row[:3] for row in indexed] == [
        ("a.png", True, False), ("b.png", False, True), ("c.png", True, False), ("twin.png", False, True)
    ]  # fmt: skip
    assert indexed[1][3:] == indexed[3][3:] == ("", -1)
    places = [row[3:] for row in indexed if row[1]]
    assert dict(shards.read_bytes(tmp_path / "data/raw", places)) == {0: png(1), 1: png(3)}
    assert refused(tmp_path) == {"b.png": "withdrawn", "twin.png": "withdrawn"} and metrics["items"] == 2
    before = digests(tmp_path / "data/raw")
    (tmp_path / "data/raw/collected.json").unlink()
    gather(tmp_path)
    assert digests(tmp_path / "data/raw") == before, "reading it again says the same"


def test_a_withdrawn_image_does_not_come_back_under_another_name(tmp_path):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    withdraw(tmp_path, png(2), png(3))
    gather(tmp_path)
    assert rows(tmp_path, "source_key") == [("a.png",)] and not stored(tmp_path, png(2))
    (source / "new.png").write_bytes(png(3))
    gather(tmp_path)
    assert rows(tmp_path, "source_key") == [("a.png",)]
    assert refused(tmp_path) == {"b.png": "withdrawn", "new.png": "withdrawn"}


def test_what_is_no_longer_withdrawn_comes_back_to_its_old_place(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    gather(tmp_path)
    withdraw(tmp_path, png(1))
    gather(tmp_path)
    withdraw(tmp_path)
    gather(tmp_path)
    assert rows(tmp_path, "source_key", "member", "withdrawn") == [("a.png", True, False), ("b.png", True, False)]
    assert stored(tmp_path, png(1)) and refused(tmp_path) == {}


def test_the_other_shards_are_not_rewritten(tmp_path):
    source = folder(tmp_path, {"a.png": png(1)})
    gather(tmp_path)
    (source / "b.png").write_bytes(png(2))
    gather(tmp_path)
    before = digests(tmp_path / "data/raw")
    withdraw(tmp_path, png(2))
    gather(tmp_path)
    after = digests(tmp_path / "data/raw")
    assert after["shard-00000.parquet"] == before["shard-00000.parquet"] and "shard-00001.parquet" not in after


def test_a_lost_index_deletes_no_shard(tmp_path):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    gather(tmp_path)
    (source / "a.png").unlink()
    before = digests(tmp_path / "data/raw")
    for lost in (["index.parquet"], ["refused.parquet"], ["collected.json"]):
        for name in lost:
            (tmp_path / "data/raw" / name).unlink()
    with pytest.raises(UserError, match=r"index\.parquet: lost, and the shards beside it.*dvc checkout"):
        gather(tmp_path)
    assert digests(tmp_path / "data/raw") == {"shard-00000.parquet": before["shard-00000.parquet"]}
    shutil.rmtree(tmp_path / "data/raw")
    assert gather(tmp_path)["items"] == 1


def test_a_first_collection_that_is_killed_is_begun_again(tmp_path, monkeypatch):
    folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("components.collect.index.Refused.write", kill)
        gather(tmp_path)
    assert shards.present(tmp_path / "data/raw") == ["shard-00000.parquet"]
    assert gather(tmp_path)["items"] == 2 and shards.present(tmp_path / "data/raw") == ["shard-00000.parquet"]


def kill(*_):
    raise Killed


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "where", ["components.collect.index.Refused.write", "components.collect.index.Index.write", "pathlib.Path.unlink"]
)
def test_a_withdrawal_that_is_killed_is_as_before_or_done_and_completes(tmp_path, monkeypatch, where):
    folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    gather(tmp_path)
    withdraw(tmp_path, png(2))

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        real = os.unlink
        patch.setattr(where, die if "unlink" not in where else lambda path, **_: die() if "shard" in path.name
                      and not path.name.startswith(".") else os.path.lexists(path) and real(path))  # fmt: skip
        with pytest.raises(Killed):
            gather(tmp_path)
    for key, shard, row in rows(tmp_path, "source_key", "shard", "row"):
        if shard:
            assert dict(shards.read_bytes(tmp_path / "data/raw", [(shard, row)]))[0] == png({"a": 1, "b": 2}[key[0]])
    gather(tmp_path)
    assert not stored(tmp_path, png(2)) and stored(tmp_path, png(1))
    assert len(list((tmp_path / "data/raw").glob("shard-*"))) == 1
