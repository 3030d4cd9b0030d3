"""A pack of several shapes: rows keep their numbers, each shape its shards, and a header that lies is one line."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.base.errors import UserError
from components.dataset import tensors
from components.samples import pack, spec

SHAPES = ((3, 6, 2), (3, 4, 4), (3, 2, 6))


def written(folder, of_rows, shard_bytes=100, shapes=SHAPES):
    """A pack whose rows have these shapes; the images, in order of rows."""
    source = np.random.default_rng(0)
    images = [source.integers(0, 200, (*shapes[at][1:], shapes[at][0]), np.uint8) for at in of_rows]
    parts = [(shape, [image.tobytes() for image, at in zip(images, of_rows, strict=True) if at == number])
             for number, shape in enumerate(shapes)]  # fmt: skip
    pack.write_shapes(folder, parts, buckets=of_rows, spec=spec.image(shapes[1]), keys=["00" * 32] * len(of_rows),
                      classes=(), class_ids=[-1] * len(of_rows), shard_bytes=shard_bytes)  # fmt: skip
    return images


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=20), st.integers(1, 200))
def test_rows_keep_their_numbers_whatever_shapes_they_have(of_rows, shard_bytes):
    of_rows += [0, 1, 2]
    with tempfile.TemporaryDirectory() as top:
        images = written(Path(top), of_rows, shard_bytes)
        header, pixels = pack.read_header(Path(top)), tensors.Pixels(Path(top))
        assert header.rows == len(of_rows) and header.spec.shape == SHAPES[1] and header.frame == (6, 6)
        values = np.concatenate([image.ravel() for image in images]) / 127.5 - 1
        assert header.spec.sigma_data == pytest.approx(values.std(), rel=1e-3), "of all shapes"
        every = [*range(len(of_rows)), 0]
        assert list(pack.read_rows(Path(top), header, every)) == [images[row].tobytes() for row in every]
        for row, image in enumerate(images):
            assert header.picture_shape(row) == image.shape
            assert torch.equal(pixels.gather([row]), torch.from_numpy(image)[None])
        for at in pixels.grouped(every):
            rows = [every[each] for each in at.tolist()]
            assert torch.equal(pixels.gather(rows), torch.from_numpy(np.stack([images[row] for row in rows])))
        ordered = pixels.by_shape(every)
        assert sorted(ordered) == sorted(every)
        runs = [picture for run in pixels.runs(ordered) for picture in run]
        assert all(np.array_equal(run, images[row]) for run, row in zip(runs, ordered, strict=True))


def test_rows_of_several_shapes_are_no_tensor(tmp_path):
    written(tmp_path, [0, 1, 2])
    with pytest.raises(ValueError, match="rows of 2 shapes do not make one tensor"):
        tensors.Pixels(tmp_path).gather([0, 1])
    assert tensors.Pixels(tmp_path).gather([]).shape == (0, 4, 4, 3)


def test_older_readers_refuse_several_shapes_and_read_what_has_one(tmp_path):
    written(tmp_path, [0, 1, 2, 1])
    raw = json.loads((tmp_path / "header.json").read_text())
    assert raw["format"] == 3 and "side" not in raw
    assert [(each["file"], each["shape"], each["rows"]) for each in raw["shards"]] == [
        ("pixels-00000.u8", 0, 1), ("pixels-00001.u8", 1, 2), ("pixels-00002.u8", 2, 1)
    ]  # fmt: skip
    assert pack.read_header(tmp_path).size == "4 × 4 and 2 other shapes of about as many"


def test_images_come_a_few_or_all_at_once_to_the_same_bytes(tmp_path):
    images = written(tmp_path, [0, 1, 1, 2, 1])
    one = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "again").mkdir()
    parts = [(SHAPES[0], [images[0].tobytes()]), (SHAPES[1], [b"".join(images[at].tobytes() for at in (1, 2, 4))]),
             (SHAPES[2], [images[3].tobytes()])]  # fmt: skip
    pack.write_shapes(tmp_path / "again", parts, buckets=[0, 1, 1, 2, 1], spec=spec.image(SHAPES[1]),
                      keys=["00" * 32] * 5, classes=(), class_ids=[-1] * 5, shard_bytes=100)  # fmt: skip
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == one


def changed(keys, value):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        if value is None:
            del raw[keys[-1]]
        else:
            raw[keys[-1]] = value

    return change


@pytest.mark.parametrize(("keys", "value", "words"), [
    (("format",), 2, "shapes are of format 3 and images as bytes, not 2"),
    (("format",), 1, "shapes are of format 3 and images as bytes, not 1"),
    (("shapes",), None, "shapes must be a list of two shapes or more"),
    (("shapes",), [], "shapes must be a list of two shapes or more"),
    (("shapes",), [[3, 4, 4]], "shapes must be a list of two shapes or more"),
    (("shapes",), "abc", "shapes must be a list of two shapes or more"),
    (("shapes", 0), 5, "shapes must be a list of two shapes or more"),
    (("shapes", 0), [3, 6], r"shape \(3, 6\) of kind image must be"),
    (("shapes", 0), [3, 0, 2], "must be whole numbers above 0"),
    (("shapes", 0), [3, True, 2], "must be whole numbers above 0"),
    (("shapes", 0), [3, 10**400, 2], "header"),
    (("shapes", 0), [3, 4, 4], "shapes must be distinct"),
    (("shapes", 0), [1, 6, 2], "of 3 channels"),
    (("shapes", 1), [3, 3, 5], r"and \(3, 4, 4\) one of them"),
    (("shapes", 0), [3, 6, 3], "36 bytes where the header promises 54"),
    (("spec", "kind"), "latent", "shapes are of format 3 and images as bytes, not 3, latent"),
    (("shards", 0, "shape"), None, "shape of pixels-00000.u8 None must be a whole number"),
    (("shards", 0, "shape"), True, "shape of pixels-00000.u8 True must be a whole number"),
    (("shards", 0, "shape"), 3, "shape 3 of pixels-00000.u8 is not one of the 3 in shapes"),
    (("shards", 0, "shape"), -1, "must be a whole number, 0 or above"),
    (("shards", 0, "shape"), 2, "no shard holds shape 0"),
])  # fmt: skip
def test_an_odd_header_is_one_line(tmp_path, keys, value, words):
    written(tmp_path, [0, 1, 2, 1])
    path = tmp_path / "header.json"
    raw = json.loads(path.read_text())
    changed(keys, value)(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=words) as caught:
        pack.read_header(tmp_path)
    assert "\n" not in str(caught.value) and "run stage 'resize' again" in str(caught.value)


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 3], [0, 1, 2, -1], [0, 1, 2, 1, 1], []])
def test_rows_that_are_given_other_shapes_than_their_shards_hold_are_one_line(tmp_path, rows):
    written(tmp_path, [0, 1, 2, 1])
    pack.write_int32(tmp_path / pack.BUCKETS, rows)
    with pytest.raises(UserError, match=r"buckets\.i32 does not give each shape as many rows as its shards hold"):
        pack.read_header(tmp_path)
    (tmp_path / pack.BUCKETS).unlink()
    with pytest.raises(UserError, match="header"):
        pack.read_header(tmp_path)
