"""Rows of a pack come back as written; a pack says what its images are, and packs from before it did still load."""

import json

import numpy as np
import pytest

from components.base.errors import UserError
from components.dataset import tensors
from components.samples import pack, spec


def packed(folder, channels=3):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, channels), np.uint8)
    pack.write(
        folder, images, keys=["00" * 32] * 7, classes=[], class_ids=[-1] * 7, side=4, channels=channels,
        shard_bytes=3 * images[0].nbytes,
    )  # fmt: skip
    return images, pack.read_header(folder)


def test_rows_come_in_the_order_asked_for_from_every_shard(tmp_path):
    images, header = packed(tmp_path)
    assert [rows for _, rows in header.shards] == [3, 3, 1]
    for wanted in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 3, 3], []):
        assert list(pack.read_rows(tmp_path, header, wanted)) == [images[row].tobytes() for row in wanted]
    assert pack.read_row(tmp_path, header, 5) == images[5].tobytes()


@pytest.mark.parametrize("row", [-1, 7])
def test_a_row_that_is_not_there_is_told(tmp_path, row):
    _, header = packed(tmp_path)
    with pytest.raises(UserError, match=f"row {row} is not in the pack, which has 7"):
        pack.read_row(tmp_path, header, row)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (5, "RGB")])
def test_a_picture_shows_the_first_channels(tmp_path, channels, mode):
    images, header = packed(tmp_path, channels)
    shown = pack.picture(pack.read_row(tmp_path, header, 4), header.spec.stored_shape)
    assert shown.mode == mode
    np.testing.assert_array_equal(np.asarray(shown), images[4, :, :, : 3 if mode == "RGB" else 1].squeeze())


def written(folder, images, shape, **changes):
    count = len(images)
    pack.write(folder, [images.tobytes()], keys=["00" * 32] * count, classes=(), class_ids=[-1] * count, shape=shape,
               **changes)  # fmt: skip
    return pack.read_header(folder)


@pytest.mark.parametrize("shape", [(3, 24, 32), (1, 8, 8)])
def test_the_spec_travels_with_the_pack_and_its_deviation_is_measured(tmp_path, shape):
    channels, height, width = shape
    images = np.random.default_rng(0).integers(0, 200, (5, height, width, channels), np.uint8)
    header = written(tmp_path, images, shape, shard_bytes=2 * images[0].size)
    assert (header.spec.shape, header.row_bytes, len(header.shards)) == (shape, images[0].size, 3)
    assert header.spec.sigma_data == pytest.approx((images / 127.5 - 1).std(), rel=1e-3)


def test_an_older_header_names_side_and_channels_alone(tmp_path):
    written(tmp_path, np.zeros((4, 8, 8, 3), np.uint8), (3, 8, 8))
    path = tmp_path / "header.json"
    old = json.loads(path.read_text("utf-8"))
    assert (old["side"], old["channels"]) == (8, 3)
    del old["spec"]
    path.write_text(json.dumps(old), "utf-8")
    assert pack.read_header(tmp_path).spec == spec.image((3, 8, 8), spec.ASSUMED)


def test_what_works_for_squares_alone_says_so(tmp_path):
    header = written(tmp_path, np.zeros((4, 8, 16, 3), np.uint8), (3, 8, 16))
    with pytest.raises(UserError, match="16 x 8 pixels: this works for square ones only"):
        _ = header.spec.side


def test_a_header_whose_spec_makes_no_sense_is_one_line(tmp_path):
    written(tmp_path, np.zeros((4, 8, 8, 3), np.uint8), (3, 8, 8))
    path = tmp_path / "header.json"
    path.write_text(path.read_text("utf-8").replace('"u8"', '"u7"'), "utf-8")
    with pytest.raises(UserError, match=r"not the header of a pack \(dtype 'u7'"):
        pack.read_header(tmp_path)


def test_an_older_header_without_a_side_is_one_line(tmp_path):
    damaged(tmp_path, lambda raw: [raw.pop("spec"), raw.pop("side")])
    with pytest.raises(UserError, match="it has no spec, and no side"):
        pack.read_header(tmp_path)


def damaged(folder, change):
    """A pack of two shards, its header changed in place."""
    written(folder, np.zeros((4, 8, 8, 3), np.uint8), (3, 8, 8), shard_bytes=400)
    path = folder / "header.json"
    raw = json.loads(path.read_text("utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), "utf-8")


def _set(*keys, value):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = value

    return change


@pytest.mark.parametrize(("keys", "values"), [
    (("format",), [None, 0, True, "1", 2, 10**400]),
    (("spec",), [None, [], {}, "x", 5]),
    (("spec", "dtype"), [None, [], "f16", "f32"]),
    (("spec", "kind"), [None, [], "mel2"]),
    (("spec", "scale"), [None, "0.5", True, 10**400, 1e400, 0]),
    (("spec", "shape"), [None, "abc", [3, 4, 16], [12, 4, 4], [3, 10**400, 10**400], [3, 8.0, 8]]),
    (("side",), [None, 9, "8", []]),
    (("channels",), [1, "3"]),
    (("rows",), [None, 3, 5, -4, 4.5, "4", True, 1e400, 10**400]),
    (("classes",), [None, "ab", {"a": 1}, [1], ["a", "a"], [["a"]], ["\ud800"]]),
    (("shards",), [None, [], {}, [1], [{}], "x"]),
    (("shards", 0, "file"), [None, 5, [], "", ".", "a\0b", "../pixels-00000.u8", "pixels-00000.u8\n",
                             "pixels-00001.u8", "pixels-00007.u8"]),
    (("shards", 0, "rows"), [None, "2", 2.0, -2, True, 10**400]),
])  # fmt: skip
def test_an_odd_header_is_one_line_that_names_a_file(tmp_path, keys, values):
    for at, value in enumerate(values):
        (folder := tmp_path / str(at)).mkdir()
        damaged(folder, _set(*keys, value=value))
        with pytest.raises(UserError, match=rf"{at}/(header\.json|pixels-0000\d\.u8): ") as caught:
            pack.read_header(folder)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400 + len(str(folder))


@pytest.mark.parametrize("key", ["format", "rows", "classes", "shards"])
def test_a_header_without_a_key_names_the_key(tmp_path, key):
    damaged(tmp_path, lambda raw: raw.pop(key))
    with pytest.raises(UserError, match=f"it has no {key}"):
        pack.read_header(tmp_path)


@pytest.mark.parametrize("text", ["", "null", "[]", '"spec"', "[" * 100_000, "\xff", '{"rows": ' + "9" * 5000 + "}"])
def test_a_header_that_is_no_object_is_one_line(tmp_path, text):
    damaged(tmp_path, lambda raw: None)
    (tmp_path / "header.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"header\.json: not the header of a pack"):
        pack.read_header(tmp_path)


def test_a_newer_header_says_so(tmp_path):
    damaged(tmp_path, _set("format", value=pack.FORMAT + 1))
    with pytest.raises(UserError, match="made by a newer Stillroom"):
        pack.read_header(tmp_path)


@pytest.mark.parametrize("ids", [[0, 0, 0, 1], [0, 0, 0, -2], [0, 0, 0], []])
def test_class_numbers_that_the_header_does_not_know_are_one_line(tmp_path, ids):
    damaged(tmp_path, _set("classes", value=["a"]))
    pack.write_int32(tmp_path / "classes.i32", ids)
    with pytest.raises(UserError, match=r"classes\.i32: not 4 numbers of the header's 1 classes"):
        tensors.Pixels(tmp_path)
