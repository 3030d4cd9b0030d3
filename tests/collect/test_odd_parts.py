"""What is odd in a source, and costs no more than itself."""

import pyarrow.parquet as pq
import pytest
from data_fixtures import folder, gather, png, tarred, zipped

from components.collect.sources.source import litter
from components.samples import shards


def labels(root):
    return {row["source_key"]: row["label"] for row in shards.read_index(root / "data/raw").to_pylist()}


def refused(root):
    rows = pq.read_table(root / "data/raw/refused.parquet").to_pylist()
    return {row["source_key"]: row["reason"] for row in rows}


LEFT = {
    "cats/.ipynb_checkpoints/1-checkpoint.png": png(1), "cats/.ipynb_checkpoints/2-checkpoint.png": png(2),
    ".thumbnails/1.png": png(1), "__MACOSX/cats/._1.png": b"fork", "cats/._1.png": b"fork", ".DS_Store": b"x",
    "cats/Thumbs.db": b"x", "@eaDir/1.png": png(1), ".git/metadata.csv": b"file_name\n", "cats/desktop.ini": b"x",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_what_programs_left_is_listed_and_is_neither_picture_nor_class_nor_metadata(tmp_path, kind):
    files = {**LEFT, "cats/1.png": png(1), "cats/2.png": png(2)}
    if kind == "folder":
        folder(tmp_path, files)
    else:
        (zipped if kind == "zip" else tarred)(tmp_path / "source", files)
    gather(tmp_path)
    assert labels(tmp_path) == {"cats/1.png": "cats", "cats/2.png": "cats"}
    names = ["cats/.ipynb_checkpoints", ".thumbnails", "__MACOSX", "cats/._1.png", ".DS_Store", "cats/Thumbs.db",
             "@eaDir", ".git", "cats/desktop.ini"]  # fmt: skip
    assert refused(tmp_path) == dict.fromkeys(names, "litter")


def test_what_programs_left_beside_shards_and_in_them_is_none(tmp_path):
    shard = tarred(tmp_path / "made", {"._1.png": b"fork", "1.png": png(1), ".cache/2.png": png(2)}).read_bytes()
    folder(tmp_path, {"0.tar": shard, "._0.tar": b"fork", ".cache/huggingface/0.tar": shard})
    gather(tmp_path, kind="webdataset", text_column=None, label_column=None)
    assert set(labels(tmp_path)) == {"0.tar/1.png"}
    assert refused(tmp_path) == dict.fromkeys(["._0.tar", ".cache", "0.tar/._1.png", "0.tar/.cache"], "litter")


NAMES = {
    "a/b.png": "", "a.b/c.png": "", "thumbs.db/1.png": "", "a/.b/.c": "a/.b", "$RECYCLE.BIN/x.png": "$RECYCLE.BIN",
    "x/ehThumbs.db": "x/ehThumbs.db",
}  # fmt: skip


@pytest.mark.parametrize("key", NAMES)
def test_litter_is_known_by_its_name(key):
    assert litter(key) == NAMES[key]
