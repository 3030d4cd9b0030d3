"""One case for each reason, which twin is kept, and what a group is."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_fixtures import clean_params, digests, encoded, folder, gather, pixels, png
from PIL import Image

from components.clean import clean
from components.errors import UserError


def verdicts(root, **changes):
    data = root / "data"
    metrics = clean(clean_params(**changes), raw=data / "raw", verdicts=data / "clean")
    rows = pq.read_table(data / "clean/verdicts.parquet").to_pylist()
    return {row["source_key"]: row for row in rows}, metrics


def judged(root, files, **changes):
    folder(root, files)
    gather(root)
    return verdicts(root, **changes)


def resized(array, side):
    return np.asarray(Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC))


def test_each_reason(tmp_path):
    ppm = io.BytesIO()
    Image.new("RGB", (32, 32)).save(ppm, "PPM")
    rows, metrics = judged(tmp_path, {
        "a.png": png(1), "bytes.png": png(1), "pixels.bmp": encoded(pixels(1), "BMP"),
        "near.jpg": encoded(pixels(1), "JPEG", quality=97, subsampling=0), "half.png": png(2)[:300],
        "text.png": b"hello", "foreign.png": ppm.getvalue(), "small.png": png(3, 7), "large.png": png(4, 200),
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


def test_the_larger_twin_is_kept_though_it_came_later(tmp_path):
    big = pixels(1, 64)
    rows, _ = judged(tmp_path, {"a.png": encoded(resized(big, 48)), "b.png": encoded(big), "c.png": encoded(big)})
    assert rows["a.png"]["reason"] == "near_duplicate" and rows["a.png"]["twin"] == rows["b.png"]["sha256"]
    assert rows["b.png"]["verdict"] == "kept" and rows["c.png"]["reason"] == "duplicate"
    assert rows["a.png"]["group"] == rows["b.png"]["group"] == rows["a.png"]["sha256"], "the founder came first"


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
    (pair,) = pq.read_table(tmp_path / "data/clean/pairs.parquet").to_pylist()
    assert (pair["a"], pair["b"], pair["same"]) == (0, 1, False)


def test_small_steps_do_not_empty_a_series(tmp_path):
    """Each neighbour is a twin, the ends are not: a chain must not swallow them."""
    series = [np.clip(pixels(1, 64).astype(int) // 2 + 9 * step, 0, 255).astype(np.uint8) for step in range(7)]
    rows, _ = judged(tmp_path, {f"{n}.png": encoded(array) for n, array in enumerate(series)})
    kept = [key for key, row in rows.items() if row["verdict"] == "kept"]
    assert kept == ["0.png", "2.png", "4.png", "6.png"]
    for row in rows.values():
        assert row["twin_arrival"] is None or rows[f"{row['twin_arrival']}.png"]["verdict"] == "kept"


def test_a_withdrawn_image_keeps_its_hash_and_casts_nobody_out(tmp_path):
    rows, _ = judged(tmp_path, {"a.png": png(1), "b.png": png(1), "c.png": png(2)})
    assert rows["b.png"]["reason"] == "duplicate"
    (tmp_path / "source/a.png").unlink()
    gather(tmp_path)
    rows, metrics = verdicts(tmp_path)
    assert rows["a.png"]["verdict"] == "withdrawn" and rows["a.png"]["phash"]
    assert rows["b.png"]["verdict"] == "kept" and rows["b.png"]["group"] == rows["a.png"]["group"]
    assert metrics["withdrawn"] == 1


def test_old_pairs_stay_when_images_are_added(tmp_path):
    judged(tmp_path, {f"{n}.png": encoded(np.roll(pixels(n // 3), n % 3, axis=1)) for n in range(12)},
           group_correlation=0.5)  # fmt: skip
    before = pq.read_table(tmp_path / "data/clean/pairs.parquet").to_pylist()
    assert before
    for n in range(6):
        (tmp_path / f"source/0{n}.png").write_bytes(encoded(np.roll(pixels(n // 3), 1, axis=0)))
    gather(tmp_path)
    verdicts(tmp_path, group_correlation=0.5)
    after = pq.read_table(tmp_path / "data/clean/pairs.parquet").to_pylist()
    assert [pair for pair in after if pair["b"] < 12] == before


def test_cleaning_twice_changes_nothing(tmp_path):
    judged(tmp_path, {f"{n}.png": png(n) for n in range(5)})
    before = digests(tmp_path / "data/clean")
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
