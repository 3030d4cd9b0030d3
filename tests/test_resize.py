"""The pack holds each kept picture, whole or its middle, in order of arrival."""

import numpy as np
import pytest
from data_fixtures import clean_params, digests, encoded, folder, gather, pixels, png, resize_params

from components import pack, parallel
from components.clean import clean
from components.errors import UserError
from components.resize import resize, scale


def packed(root, *, gather_again=True, **changes):
    raw, verdicts, out = (root / "data" / name for name in ("raw", "clean", "pixels"))
    if gather_again:
        gather(root)
        clean(clean_params(), raw=raw, verdicts=verdicts)
    metrics = resize(resize_params(**changes), raw=raw, verdicts=verdicts, pixels=out)
    header = pack.read_header(out)
    data = b"".join((out / name).read_bytes() for name, _ in header.shards)
    return header, np.frombuffer(data, np.uint8).reshape(-1, header.side, header.side, 3), metrics


def test_pictures_of_the_right_size_go_through_unchanged_in_order_of_arrival(tmp_path):
    source = folder(tmp_path, {f"{'ab'[n % 2]}/{n}.png": png(n, 16) for n in range(6)})
    packed(tmp_path)
    for n in range(6, 9):
        (source / f"{n}.png").write_bytes(png(n, 16))  # no label, and sorts first
    header, images, metrics = packed(tmp_path)
    order = [0, 2, 4, 1, 3, 5, 6, 7, 8]
    np.testing.assert_array_equal(images, np.stack([pixels(n, 16) for n in order]))
    assert header.classes == ("a", "b") and header.rows == 9
    assert list(pack.read_classes(tmp_path / "data/pixels")) == [0, 0, 0, 1, 1, 1, -1, -1, -1]
    assert metrics == {"rows": 9, "side": 16, "bytes": 9 * 768, "classes": 2, "unlabelled": 3}


def test_rejected_pictures_are_not_packed(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.png": png(1), "c.png": b"no"})
    header, _, _ = packed(tmp_path)
    assert header.rows == 1 and header.classes == ()


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (20, 24)])
def test_pad_shows_all_of_it_on_the_matte_and_crop_the_middle(shape):
    array = np.full((*shape, 3), 200, np.uint8)
    one = [(encoded(array), "#ff0000")]
    pad = np.frombuffer(scale(one, side=16, fit="pad")[0], np.uint8).reshape(16, 16, 3)
    inside = (pad == 200).all(-1)
    height, width = (max(1, round(16 * length / max(shape))) for length in shape)
    assert inside.sum() == height * width and inside.any(1).sum() == height and inside.any(0).sum() == width
    assert (pad[~inside] == (255, 0, 0)).all()
    rows = np.flatnonzero(inside.any(1))
    assert abs(rows[0] - (15 - rows[-1])) <= 1, "not in the middle"
    crop = np.frombuffer(scale(one, side=16, fit="crop")[0], np.uint8)
    assert (crop == 200).all()


def test_shrinking_is_smooth():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255  # without a filter a fourth of the rows would be all black or all white
    small = np.frombuffer(scale([(encoded(stripes), "#ffffff")], side=16, fit="pad")[0], np.uint8)
    assert abs(small.astype(float).mean() - 127.5) < 3 and small.std() < 20


def test_the_number_of_workers_changes_no_byte(tmp_path, monkeypatch):
    folder(tmp_path, {f"{n:03d}.png": png(n, 24) for n in range(130)})
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    packed(tmp_path)
    alone = {name: digests(tmp_path / "data" / name) for name in ("clean", "pixels")}
    monkeypatch.setattr(parallel, "workers", lambda: 2)
    packed(tmp_path)
    assert {name: digests(tmp_path / "data" / name) for name in ("clean", "pixels")} == alone


def test_an_index_of_other_images_is_one_line(tmp_path):
    folder(tmp_path, {"a.png": png(1)})
    packed(tmp_path)
    other = tmp_path / "other"
    folder(other, {"a.png": png(2)})
    gather(other)
    with pytest.raises(UserError, match="run stage 'clean' again"):
        resize(resize_params(), raw=other / "data/raw", verdicts=tmp_path / "data/clean", pixels=other / "p")
