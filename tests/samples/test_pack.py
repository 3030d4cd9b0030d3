"""Rows of a pack come back as written; a pack says what its images are, and packs from before it did still load."""

import json

import numpy as np
import pytest

from components.base.errors import UserError
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
