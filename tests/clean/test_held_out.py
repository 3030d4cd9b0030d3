"""Nothing is trained on that shows what a set shows that is only compared with."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_fixtures import encoded, folder, gather, judge, pixels, png
from PIL import Image

from components.base.errors import UserError

SOURCES = ({"name": "mine", "location": "mine"}, {"name": "exam", "location": "exam"})


def reasons(root):
    rows = pq.read_table(root / "data/clean/verdicts.parquet").to_pylist()
    return {(row["source"], row["source_key"]): row["reason"] for row in rows}


def shown(seed, side):
    return np.asarray(Image.fromarray(pixels(seed, 64)).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture
def two(tmp_path):
    """Of what is to be trained on: the same bytes, the same pixels, the same at another size, turned, and another."""
    folder(tmp_path, {"a.png": png(1, 64), "b.png": png(2, 64), "c.png": png(3, 64), "d.png": png(4, 64)}, "exam")
    folder(tmp_path, {
        "bytes.png": png(1, 64), "pixels.bmp": encoded(pixels(2, 64), "BMP"), "size.png": encoded(shown(3, 96)),
        "turned.png": encoded(np.rot90(pixels(4, 64))), "mine.png": png(5, 64),
        "copy.bmp": encoded(pixels(5, 64), "BMP"),
    }, "mine")  # fmt: skip
    gather(tmp_path, *SOURCES)
    return tmp_path


def test_what_such_a_set_shows_is_kept_apart_however_it_came(two):
    metrics = judge(two, against=("exam",))
    found = reasons(two)
    assert {found["exam", f"{name}.png"] for name in "abcd"} == {"against"}
    for name in ("bytes.png", "pixels.bmp", "size.png", "turned.png"):
        assert found["mine", name] == "contaminated", name
    assert sorted([found["mine", "mine.png"] or "", found["mine", "copy.bmp"] or ""]) == ["", "duplicate"]
    assert (metrics["kept"], metrics["contaminated"], metrics["against"]) == (1, 4, 4)


def test_an_image_that_its_set_has_lost_counts_still(two):
    for path in (two / "exam").glob("[abc].png"):
        path.unlink()
    gather(two, *SOURCES)
    judge(two, against=("exam",))
    assert reasons(two)["mine", "bytes.png"] == "contaminated"


def test_without_such_a_set_and_when_it_is_named_no_more_all_is_as_before(two):
    judge(two)
    before = reasons(two)
    judge(two, against=("exam",))
    judge(two)
    assert reasons(two) == before and "contaminated" not in before.values()


def test_a_set_that_is_no_source_is_one_line(two):
    with pytest.raises(UserError, match=r"clean.against: no source is called 'exams'; did you mean 'exam'\?; images"):
        judge(two, against=("exams",))
