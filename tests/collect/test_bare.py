"""With `collect.notes: strip` nothing is stored that files say beside their pictures."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_fixtures import encoded, folder, gather, index, judge, pixels, png, refused
from PIL import Image

from components.base.errors import UserError
from components.decode.position import has_position

EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x013B] = 6, "Anna"
EXIF.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 13.0), 3: "E", 4: (11.0, 34.0, 30.0)})


def stored(root):
    shards = sorted((root / "data/raw").glob("shard-*.parquet")) or sorted((root / "data/raw").glob("*/*.parquet"))
    return {row["source_key"]: row["bytes"] for path in shards for row in pq.read_table(path).to_pylist()}


def test_what_is_stored_has_no_notes_and_the_same_picture(tmp_path):
    data = encoded(pixels(1, 32), "JPEG", exif=EXIF)
    assert has_position(data)
    for notes in ("keep", "strip"):
        folder(tmp_path / notes, {"a.jpg": data, "b.png": png(2)})
        gather(tmp_path / notes, notes=notes)
        judge(tmp_path / notes)
    kept, bare = (pq.read_table(tmp_path / notes / "data/clean/verdicts.parquet").to_pylist()
                  for notes in ("keep", "strip"))  # fmt: skip
    assert [row["pixel_sha256"] for row in kept] == [row["pixel_sha256"] for row in bare]
    assert has_position(stored(tmp_path / "keep")["a.jpg"])
    assert not has_position(stored(tmp_path / "strip")["a.jpg"]) and b"Anna" not in stored(tmp_path / "strip")["a.jpg"]
    assert [row["sha256"] for row in index(tmp_path / "strip")][1] == index(tmp_path / "keep")[1]["sha256"]


def test_a_kind_that_cannot_be_stripped_and_a_broken_file_are_listed(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.tif": encoded(pixels(2), "TIFF"), "c.png": png(3)[:50], "d.jpg": b"no image"})
    gather(tmp_path, notes="strip")
    assert refused(tmp_path) == dict.fromkeys(("b.tif", "c.png", "d.jpg"), "not_stripped")


def test_a_second_collection_changes_nothing(tmp_path):
    folder(tmp_path, {"a.jpg": encoded(pixels(1, 32), "JPEG", exif=EXIF), "b.png": png(2)})
    gather(tmp_path, notes="strip")
    before = index(tmp_path)
    folder(tmp_path, {"c.png": png(3)})
    gather(tmp_path, notes="strip")
    assert index(tmp_path)[:2] == before and len(index(tmp_path)) == 3


def test_an_image_that_was_withdrawn_with_its_notes_does_not_come_back_without(tmp_path):
    folder(tmp_path, {"a.jpg": encoded(pixels(1, 32), "JPEG", exif=EXIF), "b.png": png(2)})
    gather(tmp_path)
    name = index(tmp_path)[0]["sha256"]
    stone = {"sha256": name, "pixel_sha256": None, "phash": None, "width": None, "height": None, "pairs": []}
    (tmp_path / "data/withdrawn.jsonl").write_text(json.dumps({**stone, "reason": "asked"}) + "\n")
    gather(tmp_path, notes="strip")
    assert refused(tmp_path) == {"a.jpg": "withdrawn"}
    assert np.all([row["source_key"] != "a.jpg" for row in index(tmp_path) if row["member"]])


def test_a_change_is_said_and_cannot_bring_back_what_was_withdrawn(tmp_path, caplog):
    folder(tmp_path, {"a.jpg": encoded(pixels(1, 32), "JPEG", exif=EXIF), "b.png": png(2)})
    gather(tmp_path)
    gather(tmp_path, notes="strip")
    assert "collect.notes was keep: the files of test get other SHA-256" in caplog.text
    gather(tmp_path)
    gather(tmp_path, notes="strip")
    name = next(row["sha256"] for row in index(tmp_path) if row["member"] and row["source_key"] == "a.jpg")
    stone = {"sha256": name, "pixel_sha256": None, "phash": None, "width": None, "height": None, "pairs": []}
    (tmp_path / "data/withdrawn.jsonl").write_text(json.dumps({**stone, "reason": "asked"}) + "\n")
    gather(tmp_path, notes="strip")
    with pytest.raises(UserError, match=r"^collect\.notes keep: source test was taken in with strip, and images were"):
        gather(tmp_path)
