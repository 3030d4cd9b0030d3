"""One case for each reason, which twin is kept, what a group is, and that nothing depends on how it was found."""

import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_fixtures import digests, encoded, folder, gather, judge, pixels, png
from PIL import Image

from components.base import parallel
from components.base.errors import UserError


def verdicts(root, **changes):
    metrics = judge(root, **changes)
    rows = pq.read_table(root / "data/clean/verdicts.parquet").to_pylist()
    return {row["source_key"]: row for row in rows}, metrics


def judged(root, files, **changes):
    folder(root, files)
    gather(root)
    return verdicts(root, **changes)


def pairs(root):
    return pq.read_table(root / "data/clean/pairs.parquet").to_pylist()


def resized(array, side):
    return np.asarray(Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC))


def test_each_reason(tmp_path):
    foreign = io.BytesIO()
    Image.new("RGB", (32, 32)).save(foreign, "JPEG2000")
    rows, metrics = judged(tmp_path, {
        "a.png": png(1), "bytes.png": png(1), "pixels.bmp": encoded(pixels(1), "BMP"),
        "near.jpg": encoded(pixels(1), "JPEG", quality=97, subsampling=0), "half.png": png(2)[:300],
        "text.png": b"hello", "foreign.png": foreign.getvalue(), "small.png": png(3, 7), "large.png": png(4, 200),
        "other.png": png(5),
    }, max_pixels=150 * 150)  # fmt: skip
    reasons = {key: row["reason"] for key, row in rows.items()}
    assert reasons == {
        "a.png": None, "bytes.png": "duplicate", "pixels.bmp": "duplicate", "near.jpg": "near_duplicate",
        "half.png": "damaged", "text.png": "not_an_image", "foreign.png": "format", "small.png": "too_small",
        "large.png": "too_large", "other.png": None,
    }  # fmt: skip
    for row in rows.values():
        assert (row["verdict"] == "kept") == (row["reason"] is None) == (row["detail"] is None)
    for key in ("bytes.png", "pixels.bmp", "near.jpg"):
        assert rows[key]["twin"] == rows["a.png"]["sha256"]
        assert rows[key]["twin_arrival"] == rows["a.png"]["arrival"]
        assert rows[key]["group"] == rows["a.png"]["group"] == rows["a.png"]["sha256"]
    assert "bytes" in rows["bytes.png"]["detail"] and "pixels" in rows["pixels.bmp"]["detail"]
    assert 0 < rows["near.jpg"]["difference"] <= 0.06
    assert rows["half.png"]["phash"] is None and rows["half.png"]["group"] is None
    assert metrics["kept"] == 2 and metrics["rejected"] == 8 and metrics["duplicate"] == 2
    assert {(pair["how"], pair["same"]) for pair in pairs(tmp_path)} == {
        ("bytes", True), ("pixels", True), ("correlation", True)
    }  # fmt: skip


def test_the_larger_twin_is_kept_though_it_came_later(tmp_path):
    big = pixels(1, 64)
    rows, _ = judged(tmp_path, {"a.png": encoded(resized(big, 48)), "b.png": encoded(big), "c.png": encoded(big)})
    assert rows["a.png"]["reason"] == "near_duplicate" and rows["a.png"]["twin"] == rows["b.png"]["sha256"]
    assert rows["b.png"]["verdict"] == "kept" and rows["c.png"]["reason"] == "duplicate"
    assert rows["a.png"]["group"] == rows["b.png"]["group"] == rows["a.png"]["sha256"], "the founder came first"


def test_of_equally_large_twins_the_less_compressed_one_is_kept(tmp_path):
    array = pixels(1, 64)
    rows, _ = judged(tmp_path, {"a.jpg": encoded(array, "JPEG", quality=80), "b.png": encoded(array)})
    assert (rows["a.jpg"]["reason"], rows["b.png"]["reason"]) == ("near_duplicate", None)


def test_a_removal_is_undone_when_the_twin_goes(tmp_path):
    rows, _ = judged(tmp_path, {"a.png": encoded(pixels(1, 64)), "b.png": encoded(resized(pixels(1, 64), 48))})
    assert rows["b.png"]["twin"] == rows["a.png"]["sha256"]
    (tmp_path / "source/a.png").unlink()
    gather(tmp_path)
    rows, _ = verdicts(tmp_path)
    assert rows["b.png"]["verdict"] == "kept" and rows["b.png"]["twin"] is None


def test_copies_of_a_rejected_picture_name_the_kept_one(tmp_path):
    big = pixels(1, 64)
    small = encoded(resized(big, 48))
    rows, _ = judged(tmp_path, {"a.png": small, "b.png": small, "c.png": encoded(big)})
    for key in "ab":
        assert rows[f"{key}.png"]["twin"] == rows["c.png"]["sha256"]


def test_a_colour_variant_is_kept_in_one_group(tmp_path):
    array = np.full((64, 64, 3), 255, np.uint8)
    array[8:56, 8:56] = pixels(3, 64)[8:56, 8:56] // 3 + 60
    array[24:40, 24:40] = (250, 220, 190)
    other = array.copy()
    other[24:40, 24:40] = (220, 180, 140)
    rows, metrics = judged(tmp_path, {"a.png": encoded(array), "b.png": encoded(other), "c.png": png(9)})
    assert {row["verdict"] for row in rows.values()} == {"kept"}
    assert rows["a.png"]["group"] == rows["b.png"]["group"] != rows["c.png"]["group"]
    assert metrics["groups"] == 2 and metrics["largest_group"] == 2
    (pair,) = pairs(tmp_path)
    assert (pair["a"], pair["b"], pair["same"], pair["how"]) == (0, 1, False, "correlation")


@pytest.mark.parametrize(("width", "one_group"), [(64, True), (48, False)])
def test_a_squashed_picture_is_another_picture(tmp_path, width, one_group):
    squashed = np.asarray(Image.fromarray(pixels(1, 96)).resize((width, 64), Image.Resampling.BICUBIC))
    rows, _ = judged(tmp_path, {"a.png": encoded(pixels(1, 96)), "b.png": encoded(squashed)})
    assert (rows["a.png"]["group"] == rows["b.png"]["group"]) == one_group
    assert (rows["b.png"]["reason"] == "near_duplicate") == one_group


@pytest.mark.parametrize(("turn", "name"), [
    (Image.Transpose.FLIP_LEFT_RIGHT, "flip"), (Image.Transpose.ROTATE_90, "turn 90"),
    (Image.Transpose.TRANSVERSE, "flip turn 90"),
])  # fmt: skip
@pytest.mark.parametrize("side", [48, 200])
def test_a_turned_or_mirrored_copy_is_of_the_group_and_kept(tmp_path, turn, name, side):
    """From 128 px by corners, below by correlation; the name is what lays the later one on the first."""
    array = np.kron(np.random.default_rng(2).integers(0, 256, (side // 8, side // 8, 3), np.uint8), np.ones((8, 8, 1)))
    array = array.astype(np.uint8)
    other = np.asarray(Image.fromarray(array).transpose(turn))
    rows, _ = judged(tmp_path, {"a.png": encoded(array), "b.png": encoded(other)})
    (pair,) = pairs(tmp_path)
    assert (pair["orientation"], pair["same"], pair["how"]) == (name, False, "orb" if side > 100 else "correlation")
    assert {row["verdict"] for row in rows.values()} == {"kept"}


def test_images_of_one_named_group_are_one_group(tmp_path):
    meta = "file_name,text,label,family\na.png,a,x,1\nb.png,b,x,2\nc.png,c,x,1\nd.png,d,x,\ne.png,e,x,\n"
    folder(tmp_path, {**{f"{name}.png": png(at) for at, name in enumerate("abcde")}, "metadata.csv": meta.encode()})
    gather(tmp_path, group_column="family")
    rows, _ = verdicts(tmp_path)
    groups = [rows[f"{name}.png"]["group"] for name in "abcde"]
    assert groups[0] == groups[2] and len(set(groups)) == 4
    (pair,) = pairs(tmp_path)
    assert (pair["a"], pair["b"], pair["how"], pair["same"], pair["distance"]) == (0, 2, "group", False, None)


def test_small_steps_do_not_empty_a_series(tmp_path):
    """Each neighbour is a twin, the ends are not: a chain must not swallow them."""
    series = [np.clip(pixels(1, 64).astype(int) // 2 + 9 * step, 0, 255).astype(np.uint8) for step in range(7)]
    rows, _ = judged(tmp_path, {f"{n}.bmp": encoded(array, "BMP") for n, array in enumerate(series)})
    kept = [key for key, row in rows.items() if row["verdict"] == "kept"]
    assert kept == ["0.bmp", "2.bmp", "4.bmp", "6.bmp"]
    for row in rows.values():
        assert row["twin_arrival"] is None or rows[f"{row['twin_arrival']}.bmp"]["verdict"] == "kept"


def test_a_vanished_image_keeps_its_hash_and_casts_nobody_out(tmp_path):
    rows, _ = judged(tmp_path, {"a.png": png(1), "b.png": png(1), "c.png": png(2)})
    assert rows["b.png"]["reason"] == "duplicate"
    (tmp_path / "source/a.png").unlink()
    gather(tmp_path)
    rows, metrics = verdicts(tmp_path)
    assert (rows["a.png"]["verdict"], rows["a.png"]["reason"]) == ("withdrawn", "gone") and rows["a.png"]["phash"]
    assert rows["b.png"]["verdict"] == "kept" and rows["b.png"]["group"] == rows["a.png"]["group"]
    assert metrics["withdrawn"] == 1


def take_back(root, key):
    """What `stillroom data withdraw` and then stage collect leave of image ``key``."""
    row = next(
        row for row in pq.read_table(root / "data/clean/verdicts.parquet").to_pylist() if row["source_key"] == key
    )
    arrivals = {
        row["arrival"]: row["sha256"] for row in pq.read_table(root / "data/clean/verdicts.parquet").to_pylist()
    }
    ends = [(arrivals[pair["a"] + pair["b"] - row["arrival"]], pair["how"]) for pair in pairs(root)
            if row["arrival"] in (pair["a"], pair["b"])]  # fmt: skip
    record = {
        name: row[name] for name in ("sha256", "source", "source_key", "pixel_sha256", "phash", "width", "height")
    }
    (root / "data/withdrawn.jsonl").write_text(json.dumps({**record, "reason": "asked for", "pairs": ends}) + "\n")
    index = pq.read_table(root / "data/raw/index.parquet")
    rows = [{**each, "member": False, "withdrawn": True, "shard": "", "row": -1} if each["source_key"] == key else each
            for each in index.to_pylist()]  # fmt: skip
    pq.write_table(type(index).from_pylist(rows, index.schema), root / "data/raw/index.parquet")


def test_a_withdrawn_image_keeps_its_place_and_its_pairs_and_its_pixels_do_not_come_back(tmp_path):
    middle = np.clip(pixels(1, 64).astype(int) // 2 + 40, 0, 255).astype(np.uint8)
    judged(tmp_path, {"a.png": encoded(middle), "b.png": encoded(resized(middle, 48)), "c.png": png(2),
                      "d.bmp": encoded(middle, "BMP")})  # fmt: skip
    before = pairs(tmp_path)
    take_back(tmp_path, "a.png")
    shutil.rmtree(tmp_path / ".stillroom")
    rows, metrics = verdicts(tmp_path)
    assert (rows["a.png"]["verdict"], rows["a.png"]["reason"]) == ("withdrawn", "withdrawn")
    assert (rows["d.bmp"]["verdict"], rows["d.bmp"]["reason"]) == ("rejected", "withdrawn")
    assert (
        rows["b.png"]["verdict"] == "kept"
        and rows["b.png"]["group"] == rows["a.png"]["group"] != rows["c.png"]["group"]
    )
    assert {(pair["a"], pair["b"]) for pair in pairs(tmp_path)} == {(pair["a"], pair["b"]) for pair in before}
    assert metrics["withdrawn"] == 1 and metrics["rejected_withdrawn"] == 1


def test_a_broken_line_of_the_withdrawn_is_one_line(tmp_path):
    judged(tmp_path, {"a.png": png(1)})
    (tmp_path / "data/withdrawn.jsonl").write_text('{"sha256": 1}\n')
    with pytest.raises(UserError, match=r"withdrawn\.jsonl:1: not a withdrawn image"):
        verdicts(tmp_path)


def many():
    """Copies of a few pictures: resized, mirrored, cropped, of other colours; and some larger ones."""
    files = {}
    for n in range(6):
        array = pixels(n, 64)
        files |= {f"{n}0.png": encoded(array), f"{n}1.png": encoded(resized(array, 48)),
                  f"{n}2.png": encoded(array[:, ::-1]), f"{n}3.png": encoded(array[3:, 3:]),
                  f"{n}4.png": encoded(array[..., ::-1])}  # fmt: skip
    large = np.kron(np.random.default_rng(3).integers(0, 256, (20, 20, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    return files | {"l.png": encoded(large), "m.png": encoded(large[8:])}


@pytest.mark.slow(6)
def test_verdicts_are_the_same_with_facts_without_with_workers_and_in_refreshes(tmp_path, monkeypatch):
    files = many()
    names = sorted(files)
    step = len(names) // 3
    roots = [tmp_path / name for name in ("at once", "in steps")]
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    for start in range(0, len(names), step):
        judged(roots[1], {name: files[name] for name in names[start : start + step]})
    # The order of arrival is that of the steps: the same names in one go.
    judged(roots[0], files)
    assert digests(roots[0] / "data/clean") == digests(roots[1] / "data/clean")
    assert {pair["how"] for pair in pairs(roots[0])} == {"correlation", "orb"} and len(pairs(roots[0])) > 10
    before = digests(roots[1] / "data/clean")
    shutil.rmtree(roots[1] / ".stillroom")
    monkeypatch.setattr(parallel, "workers", lambda: 2)
    verdicts(roots[1])
    assert digests(roots[1] / "data/clean") == before


def test_what_is_known_is_not_computed_again(tmp_path, monkeypatch):
    judged(tmp_path, many())
    before = digests(tmp_path / "data/clean")
    monkeypatch.setattr(parallel, "ordered", lambda *_, **__: pytest.fail("something was computed again"))
    verdicts(tmp_path)
    assert digests(tmp_path / "data/clean") == before


@pytest.mark.slow(8)
def test_a_verdict_that_is_kept_is_of_the_same_distance(tmp_path, monkeypatch):
    """Up to max_distance bits apart a crop is not moved about when it does not fit at all; past it, it is."""
    monkeypatch.setattr(parallel, "workers", lambda: 1)  # each would import torch
    files = {}
    for n in range(4):
        array = pixels(n, 64)
        files |= {f"{n}.png": encoded(array), f"{n}crop.png": encoded(np.ascontiguousarray(array[12:, 12:]))}
    judged(tmp_path, files, embedding="efficientnet_lite0", max_distance=0)
    found = len(pairs(tmp_path))
    verdicts(tmp_path, embedding="efficientnet_lite0", max_distance=128)
    before = digests(tmp_path / "data/clean")
    shutil.rmtree(tmp_path / ".stillroom/facts")
    verdicts(tmp_path, embedding="efficientnet_lite0", max_distance=128)
    assert digests(tmp_path / "data/clean") == before and len(pairs(tmp_path)) < found


def test_damaged_facts_are_computed_again(tmp_path):
    judged(tmp_path, many())
    before = digests(tmp_path / "data/clean")
    for path in (tmp_path / ".stillroom/facts").rglob("*.*"):
        path.write_bytes(path.read_bytes()[:-9])
    verdicts(tmp_path)
    assert digests(tmp_path / "data/clean") == before


def test_nothing_left_is_one_line_and_the_old_verdicts_stay(tmp_path):
    judged(tmp_path, {"a.png": png(1)})
    before = digests(tmp_path / "data/clean")
    with pytest.raises(UserError, match="no image is left after cleaning \\(too_small 1\\)"):
        verdicts(tmp_path, min_side=100)
    assert digests(tmp_path / "data/clean") == before


def test_a_raw_folder_that_lost_a_shard_is_one_line(tmp_path):
    folder(tmp_path, {"a.png": png(1)})
    gather(tmp_path)
    (tmp_path / "data/raw/shard-00000.parquet").unlink()
    with pytest.raises(UserError, match="dvc checkout"):
        verdicts(tmp_path)
    (tmp_path / "data/raw/index.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="not the table of stage 'collect'"):
        verdicts(tmp_path)
