"""What curators decided stands above the rules: it changes the images it names, and nothing else moves."""

import json

import numpy as np
import pyarrow.parquet as pq
from data_fixtures import TOLD, digests, encoded, folder, gather, judge, pixels, png, split_params
from PIL import Image

from components.clean import known
from components.samples import manifest, records
from components.split.stage import decide

BIG = pixels(1, 64)


def small(side=48):
    return encoded(np.asarray(Image.fromarray(BIG).resize((side, side), Image.Resampling.BICUBIC)))


def table(root, name="verdicts"):
    return pq.read_table(root / f"data/clean/{name}.parquet").to_pylist()


def judged(root, files=None, **changes):
    if files:
        folder(root, files)
        gather(root, **changes)
    metrics = judge(root)
    return {row["source_key"]: row for row in table(root)}, metrics


def decided(root, rows, *lines):
    """Write down (name, decision, label) each, of the image called so; a name may be a SHA-256."""
    said = [{"sha256": rows[key]["sha256"] if key in rows else key, "decision": what, "label": label, "undo": False,
             "reason": "I looked", "who": "Ann", "source": "test", "source_key": key}
            for key, what, label in lines]  # fmt: skip
    records.append(root / "data/decisions.jsonl", said)


def said(rows, *keys):
    return {key: (rows[key]["verdict"], rows[key]["reason"]) for key in keys}


def outcomes(root):
    return [(row["source_key"], row["decision"], row["before"], row["after"], row["fault"])
            for row in table(root, "decisions")]  # fmt: skip


def test_what_a_rule_rejected_is_kept_in_its_group_and_split(tmp_path):
    rows, before = judged(tmp_path, {"big.png": encoded(BIG), "copy.png": small(), "bmp.bmp": encoded(BIG, "BMP"),
                                     "tiny.png": png(3, 7), "other.png": png(4)})  # fmt: skip
    kept, pairs = rows["big.png"], table(tmp_path, "pairs")
    decided(tmp_path, rows, ("copy.png", "keep", None), ("bmp.bmp", "keep", None), ("tiny.png", "keep", None))
    rows, metrics = judged(tmp_path)
    assert {key: row["verdict"] for key, row in rows.items()} == dict.fromkeys(rows, "kept")
    for key in ("copy.png", "bmp.bmp"):
        assert rows[key]["group"] == kept["group"]
        assert [rows[key][name] for name in ("reason", "detail", "twin", "distance", "difference")] == [None] * 5
    assert table(tmp_path, "pairs") == pairs, "who looks like whom is no matter of taste"
    assert (metrics["kept"], metrics["decisions"], metrics["idle_decisions"]) == (before["kept"] + 3, 3, 0)
    assert outcomes(tmp_path) == [
        ("copy.png", "keep", "rejected (near duplicate)", "kept", None),
        ("bmp.bmp", "keep", "rejected (duplicate)", "kept", None),
        ("tiny.png", "keep", "rejected (too small)", "kept", None),
    ]
    names = [row["sha256"] for row in table(tmp_path)]
    shares = {name: getattr(split_params(), name) for name in ("train", "val", "test")}
    places, _ = decide(names, [(pair["a"], pair["b"]) for pair in pairs], salt="x", shares=shares)
    splits = {row["source_key"]: place for row, place in zip(table(tmp_path), places, strict=True)}
    assert splits["big.png"] == splits["copy.png"] == splits["bmp.bmp"]


def test_of_equal_bytes_one_is_kept(tmp_path):
    rows, _ = judged(tmp_path, {"a.png": encoded(BIG), "b.png": small(), "c.png": small(), "z.png": png(2)})
    decided(tmp_path, rows, ("c.png", "keep", None))
    rows, _ = judged(tmp_path)
    assert said(rows, "a.png", "b.png", "c.png") == {
        "a.png": ("kept", None), "b.png": ("kept", None), "c.png": ("rejected", "near_duplicate"),
    }  # fmt: skip


def test_a_rejected_picture_takes_its_copies_with_it_also_those_that_come_later(tmp_path):
    rows, _ = judged(tmp_path, {"a.png": small(), "b.bmp": encoded(BIG[:48, :48], "BMP"), "same.bmp": small(),
                                "z.png": png(2)})  # fmt: skip
    assert rows["a.png"]["verdict"] == "kept"
    decided(tmp_path, rows, ("a.png", "reject", None))
    rows, _ = judged(tmp_path, {"larger.png": encoded(BIG)})
    assert said(rows, "a.png", "larger.png", "same.bmp", "z.png") == {
        "a.png": ("rejected", "curator"), "larger.png": ("rejected", "near_duplicate"),
        "same.bmp": ("rejected", "duplicate"), "z.png": ("kept", None),
    }  # fmt: skip
    assert rows["a.png"]["detail"] == "curator: I looked" and rows["larger.png"]["twin"] == rows["a.png"]["sha256"]
    decided(tmp_path, rows, ("larger.png", "keep", None))
    rows, metrics = judged(tmp_path)
    assert said(rows, "a.png", "larger.png") == {"a.png": ("rejected", "curator"), "larger.png": ("kept", None)}
    assert metrics["curator"] == 1 and rows["a.png"]["group"] == rows["larger.png"]["group"]


def test_a_label_is_that_of_the_curator_and_may_be_one_that_no_image_had(tmp_path):
    metadata = b"file_name,text,label\na.png,one,cat\nb.png,two,cat\n"
    rows, _ = judged(tmp_path, {"a.png": png(1), "b.png": png(2), "metadata.csv": metadata}, **TOLD)
    decided(tmp_path, rows, ("b.png", "label", "dog"), ("b.png", "label", "wolf"))
    rows, _ = judged(tmp_path)
    assert {key: row["label"] for key, row in rows.items()} == {"a.png": "cat", "b.png": "wolf"}
    assert outcomes(tmp_path) == [("b.png", "label", "cat", "wolf", None)]
    assert {row["label"] for row in pq.read_table(tmp_path / "data/raw/index.parquet").to_pylist()} == {"cat"}


def test_a_decision_that_can_change_nothing_is_listed_with_the_reason_and_stops_nothing(tmp_path):
    rows, _ = judged(tmp_path, {"gone.png": png(1), "half.png": png(2)[:300], "taken.png": png(3), "z.png": png(4),
                                "shows.bmp": encoded(pixels(3), "BMP")})  # fmt: skip
    decided(tmp_path, rows, ("gone.png", "keep", None), ("half.png", "keep", None), ("shows.bmp", "keep", None),
            ("taken.png", "keep", None), ("f" * 64, "label", "cat"))  # fmt: skip
    (tmp_path / "source/gone.png").unlink()
    names = ("sha256", "source", "source_key", "pixel_sha256", "phash", "width", "height")
    stone = {**{name: rows["taken.png"][name] for name in names}, "reason": "asked", "pairs": []}
    (tmp_path / "data/withdrawn.jsonl").write_text(json.dumps(stone) + "\n")
    gather(tmp_path)
    rows, metrics = judged(tmp_path)
    assert said(rows, "gone.png", "half.png", "shows.bmp", "taken.png") == {
        "gone.png": ("withdrawn", "gone"), "half.png": ("rejected", "damaged"),
        "shows.bmp": ("rejected", "withdrawn"), "taken.png": ("withdrawn", "withdrawn"),
    }  # fmt: skip
    assert [fault for *_, fault in outcomes(tmp_path)] == [
        "it is not in its source any more", "no picture that is damaged can be kept",
        "no picture that is withdrawn can be kept", "it was withdrawn", "it never came from a source of this data",
    ]  # fmt: skip
    assert (metrics["decisions"], metrics["idle_decisions"]) == (5, 5)


def test_a_decision_taken_back_leaves_the_bytes_as_they_were_and_no_image_is_looked_at_again(tmp_path, monkeypatch):
    rows, _ = judged(tmp_path, {"a.png": encoded(BIG), "b.png": small(), "c.png": png(2)})
    before = digests(tmp_path / "data/clean")
    monkeypatch.setattr(known.parallel, "ordered", None)  # whatever decodes
    decided(tmp_path, rows, ("b.png", "keep", None), ("c.png", "reject", None))
    judged(tmp_path)
    assert digests(tmp_path / "data/clean") != before
    lines = (tmp_path / "data/decisions.jsonl").read_text().splitlines()
    records.append(tmp_path / "data/decisions.jsonl", [{**json.loads(line), "undo": True} for line in lines])
    judged(tmp_path)
    assert digests(tmp_path / "data/clean") == before


def test_what_can_be_kept_are_reasons_of_the_rules():
    from components.clean.stage import REASONS

    assert set(manifest.KEEPABLE) < set(REASONS)
