"""Rows of a pack come back as they were written, wherever its shards end."""

import numpy as np
import pytest

from components.base.errors import UserError
from components.samples import pack


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
    shown = pack.picture(pack.read_row(tmp_path, header, 4), header.stored_shape)
    assert shown.mode == mode
    np.testing.assert_array_equal(np.asarray(shown), images[4, :, :, : 3 if mode == "RGB" else 1].squeeze())
