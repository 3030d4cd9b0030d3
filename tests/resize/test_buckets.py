"""Pictures of many shapes: each goes to the shape nearest to its own and loses as little as that needs."""

import math

import numpy as np
import pytest
from data_fixtures import digests, encoded, folder, gather, judge, pixels, resize_params
from hypothesis import given
from hypothesis import strategies as st

from components.base import config
from components.base.errors import UserError
from components.resize import buckets, scaling
from components.resize.params import BucketParams, ResizeParams
from components.resize.stage import resize
from components.samples import pack


def params(step=16, max_aspect=2.0):
    return BucketParams(kind="buckets", step=step, max_aspect=max_aspect)


@st.composite
def lists(draw):
    step = draw(st.integers(2, 64))
    side = step * draw(st.integers(1, 16))
    return side, step, draw(st.floats(1, 8)), buckets.shapes


@given(lists())
def test_shapes_are_multiples_of_the_step_of_about_one_area_and_none_is_longer_than_asked(world):
    side, step, longest, shapes = world
    found = shapes(side, params(step, longest))
    assert (side, side) in found and len(set(found)) == len(found)
    assert [size[0] / size[1] for size in found] == sorted((size[0] / size[1] for size in found), reverse=True)
    assert {(width, height) for height, width in found} == set(found), "upright as well as wide"
    for height, width in found:
        assert not height % step and not width % step
        assert side**2 - min(height, width) * step < height * width <= side**2
        assert max(height, width) / min(height, width) <= longest


def test_the_shapes_of_a_common_setting_are_the_known_ones():
    """Those of the area limit that NovelAI and kohya's scripts have for 512 px in steps of 64, up to 1:4."""
    found = buckets.shapes(512, params(64, 4.0))
    assert [f"{width}x{height}" for height, width in found] == [
        "256x1024", "320x768", "384x640", "448x576", "512x512", "576x448", "640x384", "768x320", "1024x256"
    ]  # fmt: skip


@given(lists(), st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=20))
def test_a_picture_goes_to_the_nearest_aspect(world, sizes):
    side, step, longest, shapes = world
    known = shapes(side, params(step, longest))
    for size, at in zip(sizes, buckets.nearest(sizes, known), strict=True):
        far = [abs(math.log(size[0] / size[1]) - math.log(height / width)) for height, width in known]
        assert far[at] == pytest.approx(min(far), abs=1e-9)


def test_of_two_equally_near_shapes_the_squarer_one_is_taken():
    assert buckets.nearest([(20, 10)], [(40, 10), (10, 10)]) == [1]
    assert buckets.nearest([], [(1, 1)]) == []


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_what_is_cut_covers_the_shape_lies_in_the_middle_and_loses_one_side_alone(size, wanted):
    rows = np.arange(size[0] * size[1]).reshape(size)
    found = scaling.cut(rows, wanted)
    assert found.size and (found.shape[0] == size[0] or found.shape[1] == size[1])
    exact = [min(size[0], size[1] * wanted[0] / wanted[1]), min(size[1], size[0] * wanted[1] / wanted[0])]
    assert all(abs(got - max(1, one)) <= 0.5 for got, one in zip(found.shape, exact, strict=True))
    top, left = divmod(int(found[0, 0]), size[1])
    assert abs(2 * top + found.shape[0] - size[0]) <= 1 and abs(2 * left + found.shape[1] - size[1]) <= 1


SIZES = [(48, 48), (30, 60), (60, 30), (20, 90), (48, 48), (47, 48), (60, 31)]


def brought(root, *, again=False, **fit):
    if not again:
        folder(root, {f"{n}.png": encoded(pixels(n, 90)[:height, :width]) for n, (height, width) in enumerate(SIZES)})
        gather(root)
        judge(root)
    data = root / "data"
    changes = fit or {"fit": params(4, 2.0)}
    return resize(resize_params(**changes), raw=data / "raw", verdicts=data / "clean", pixels=data / "pixels",
                  facts=root / "facts")  # fmt: skip


def test_the_pack_has_a_shape_for_each_kind_of_picture_and_rows_in_order_of_arrival(tmp_path):
    metrics = brought(tmp_path)
    header = pack.read_header(tmp_path / "data/pixels")
    upright, square, wide = (20, 12), (16, 16), (12, 20)
    assert [header.shape(row)[1:] for row in range(7)] == [square, wide, upright, wide, square, square, upright]
    assert [shape[1:] for shape in header.shapes] == [upright, square, wide] and header.spec.shape[1:] == square
    for row, (height, width) in enumerate(SIZES):
        size = header.shape(row)[1:]
        source = scaling.cut(pixels(row, 90)[:height, :width], size)
        wanted = scaling.resized(source, size).tobytes()
        assert pack.read_row(tmp_path / "data/pixels", header, row) == wanted, row
    assert metrics["rows"] == 7
    assert sum(value for name, value in metrics.items() if name.startswith("rows_")) == 7
    lost = [1 - buckets.kept_share(size, header.shape(row)[1:]) for row, size in enumerate(SIZES)]
    assert metrics["cut_away"] == pytest.approx(sum(lost) / 7, abs=1e-6)


def test_a_square_among_the_shapes_is_what_crop_makes_and_is_not_made_twice(tmp_path, monkeypatch):
    brought(tmp_path, fit="crop")
    square = pack.read_row(tmp_path / "data/pixels", pack.read_header(tmp_path / "data/pixels"), 4)
    seen = []
    true = scaling.scale_each
    monkeypatch.setattr("components.base.parallel.ordered", lambda work, batches, **_: (
        seen.extend(batch) or true(batch, fit="crop") for batch in batches))  # fmt: skip
    brought(tmp_path, again=True, fit=params(4, 2.0))
    header = pack.read_header(tmp_path / "data/pixels")
    assert pack.read_row(tmp_path / "data/pixels", header, 4) == square
    assert len(seen) == sum(header.shape(row)[1] != header.shape(row)[2] for row in range(7))


def test_pictures_of_one_shape_make_the_pack_that_they_always_made(tmp_path):
    brought(tmp_path, fit="crop")
    crop = digests(tmp_path / "data/pixels")
    metrics = brought(tmp_path, again=True, fit=params(16, 1.0))
    assert digests(tmp_path / "data/pixels") == crop, "no format that older readers refuse"
    assert metrics["rows_16x16"] == 7


@pytest.mark.parametrize(("fit", "line"), [
    ("buckets", r"resize\.fit buckets needs two numbers more: \{kind: buckets, step: 32, max_aspect: 2\.0\}"),
    ("fill", r"resize\.fit should be 'pad' or 'crop', not 'fill' .*\{kind: buckets, step, max_aspect\}"),
    ({"kind": "buckets", "step": 24, "max_aspect": 2.0}, r"resize side 64 is not a multiple of fit\.step 24"),
    ({"kind": "buckets", "stp": 16, "max_aspect": 2.0}, r"resize\.fit\.stp is not a parameter; did you mean 'step'"),
    ({"kind": "buckets", "step": 16}, r"resize\.fit\.max_aspect is missing"),
])  # fmt: skip
def test_a_fit_that_cannot_be_is_one_line(fit, line):
    with pytest.raises(UserError, match=line):
        config.section({"resize": {"side": 64, "fit": fit}}, "resize", ResizeParams)
