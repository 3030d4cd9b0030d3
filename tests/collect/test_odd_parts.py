"""What is odd in a source, and costs no more than itself."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fixtures import TOLD, folder, gather, png, refused, tarred, zipped

from components.base.errors import UserError
from components.collect.sources.source import litter
from components.samples import shards


def labels(root):
    return {row["source_key"]: row["label"] for row in shards.read_index(root / "data/raw").to_pylist()}


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


FOUR = {f"{n}.png": png(n) for n in range(1, 5)}
NEXT = b"3.png,,z\n4.png,four,w\n"


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (b"2.png,two\n", {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b"2.png,two,y,more\n", {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b'2.png,"two,y\n', {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b'2.png,"two"2,y\n', {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b",two,y\n", {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b"\xff.png,two,y\n", {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
        (b"2.png,\xff,y\n", {"2.png": "bad_text"}),
        (b"2.png,\0,y\n", {"2.png": "bad_text"}),
        (b"2.png," + b"x" * 200_000 + b",y\n", {"metadata.csv line 3": "bad_row", "2.png": "metadata_missing"}),
    ],
)
def test_a_bad_row_of_metadata_costs_its_image_alone(tmp_path, row, reasons):
    folder(tmp_path, {**FOUR, "metadata.csv": b"file_name,text,label\n1.png,one,x\n" + row + NEXT})
    gather(tmp_path, **TOLD)
    assert labels(tmp_path) == {"1.png": "x", "3.png": "z", "4.png": "w"}
    assert refused(tmp_path) == reasons


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (b"{nope", {"metadata.jsonl line 2": "bad_row", "2.png": "metadata_missing"}),
        (b"[1]", {"metadata.jsonl line 2": "bad_row", "2.png": "metadata_missing"}),
        (b'{"text": "two"}', {"metadata.jsonl line 2": "bad_row", "2.png": "metadata_missing"}),
        (b'{"file_name": "2.png", "text": ["two"]}', {"2.png": "bad_text"}),
        (b'{"file_name": "2.png", "label": "\\ud800"}', {"2.png": "bad_text"}),
    ],
)
def test_a_bad_line_of_json_costs_its_image_alone(tmp_path, row, reasons):
    rest = b'{"file_name": "3.png", "text": "x"}\n{"file_name": "4.png", "label": "w"}'
    lines = [b'{"file_name": "1.png", "text": "one", "label": "x"}', row, rest]
    folder(tmp_path, {**FOUR, "metadata.jsonl": b"\n".join(lines)})
    gather(tmp_path, **TOLD)
    assert labels(tmp_path) == {"1.png": "x", "3.png": None, "4.png": "w"}
    assert refused(tmp_path) == reasons


def test_a_column_that_no_row_has_is_the_users_mistake(tmp_path):
    folder(tmp_path, {"1.png": png(1), "metadata.jsonl": b'{"file_name": "1.png", "txt": "x"}\n{"file_name": "2.png"}'})
    with pytest.raises(UserError, match=r"line 1: no column 'text'; did you mean 'txt'"):
        gather(tmp_path, text_column="text", label_column=None)


def test_many_quotes_that_nobody_closed_end_in_one_line(tmp_path):
    rows = b"file_name,text,label\n1.png,a,b\n" + b'2.png,"x,y\n' * 1001
    folder(tmp_path, {"1.png": png(1), "metadata.csv": rows})
    with pytest.raises(UserError, match=r"line 10\d\d: not CSV"):
        gather(tmp_path, **TOLD)


def test_what_is_missing_is_no_text(tmp_path):
    said = b'{"file_name": "1.png", "text": NaN, "label": NaN}\n{"file_name": "2.png", "text": "nan", "label": 7}'
    folder(tmp_path, {"1.png": png(1), "2.png": png(2), "metadata.jsonl": said}, "one")
    images = [{"bytes": png(n), "path": None} for n in (3, 4)]
    features = {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    table = pa.table({"image": images, "kind": [float("nan"), 1.5], "label": pa.array([float("nan"), None])})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    (tmp_path / "two").mkdir()
    pq.write_table(table.replace_schema_metadata(meta), tmp_path / "two/0.parquet")
    rows = {"kind": "parquet", "image_column": "image", "location": "two"}
    gather(tmp_path, {"name": "one", "location": "one", **TOLD}, {**rows, "name": "two", "text_column": "kind"})
    found = shards.read_index(tmp_path / "data/raw").to_pylist()
    assert [(row["text"], row["label"]) for row in found] == [(None, None), ("nan", "7"), (None, None), ("1.5", None)]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_shard_without_members_is_an_empty_shard(tmp_path, mode):
    end = ".tar" if mode == "w" else ".tar.gz"
    tarred(tmp_path / "empty", {}, mode)
    folder(
        tmp_path,
        {
            f"0{end}": (tmp_path / "empty").read_bytes(),
            "1.tar": tarred(tmp_path / "made", {"1.png": png(1)}).read_bytes(),
        },
    )
    gather(tmp_path, kind="webdataset", text_column=None, label_column=None)
    assert set(labels(tmp_path)) == {"1.tar/1.png"}


def test_a_shard_without_captions_has_images_without_captions(tmp_path):
    told = {"1.png": png(1), "1.txt": b"one", "1.json": b'{"kind": "x"}'}
    shards_ = {
        f"{at}.tar": tarred(tmp_path / "made", files).read_bytes() for at, files in enumerate([told, {"2.png": png(2)}])
    }
    folder(tmp_path, shards_)
    gather(tmp_path, kind="webdataset", text_column="txt", label_column="json.kind")
    assert labels(tmp_path) == {"0.tar/1.png": "x", "1.tar/2.png": None}


@pytest.mark.parametrize("paths", [["1", None, "2", None], ["3", "0", "1", None], ["1", "1", "0", "x"]])
def test_no_row_is_called_by_the_number_of_another(tmp_path, paths):
    (tmp_path / "source").mkdir()
    table = pa.table(
        {"image": [{"bytes": png(at), "path": path} for at, path in enumerate(paths)], "text": list("abcd")}
    )
    pq.write_table(table, tmp_path / "source/0.parquet")
    gather(tmp_path, kind="parquet", image_column="image", text_column="text", label_column=None)
    found = shards.read_index(tmp_path / "data/raw").to_pylist()
    sha = {hashlib.sha256(png(at)).hexdigest(): text for at, text in enumerate("abcd")}
    assert len({row["source_key"] for row in found}) == 4
    assert all(sha[row["sha256"]] == row["text"] for row in found)


@pytest.mark.parametrize("column", ["text_column", "label_column", "group_column"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_column_of_metadata_that_is_not_there_is_the_users_mistake(tmp_path, column, kind):
    files = {"cats/1.png": png(1), ".git/metadata.csv": b"file_name"}
    (zipped if kind == "zip" else folder)(*((tmp_path / "source", files) if kind == "zip" else (tmp_path, files)))
    with pytest.raises(UserError, match=rf"^source: {column} of source 'test' ask for columns of metadata\.csv"):
        gather(tmp_path, **{column: "kind"})
    gather(tmp_path)
    assert labels(tmp_path) == {"cats/1.png": "cats"}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_picture_whose_name_holds_control_characters_is_kept_and_its_name_written_out(tmp_path, kind):
    files = {"a\x07\n.png": png(1), "b.png": png(2), "metadata.csv": b'file_name,label\n"a\x07\n.png",x\nb.png,y\n'}
    if kind == "folder":
        folder(tmp_path, files)
    else:
        (zipped if kind == "zip" else tarred)(tmp_path / "source", files)
    gather(tmp_path, label_column="label")
    assert labels(tmp_path) == {"a\\x07\\x0a.png": "x", "b.png": "y"} and refused(tmp_path) == {}


def test_names_of_what_is_read_as_png_or_jpeg_are_images(tmp_path):
    folder(tmp_path, {"a.apng": png(1), "b.MPO": png(2)})
    gather(tmp_path)
    assert set(labels(tmp_path)) == {"a.apng", "b.MPO"}
