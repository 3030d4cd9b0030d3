"""The pack holds each kept picture, whole or its middle, in order of arrival."""

import numpy as np
import pyarrow as pa
import pytest
from data_fixtures import digests, encoded, folder, gather, judge, pixels, png, resize_params
from PIL import Image

from components.base import parallel
from components.base.errors import UserError
from components.resize import scaling
from components.resize.scaling import scale
from components.resize.stage import _names, resize
from components.samples import facts, pack
from components.samples.spec import image


def packed(root, *, gather_again=True, **changes):
    raw, verdicts, out = (root / "data" / name for name in ("raw", "clean", "pixels"))
    if gather_again:
        gather(root)
        judge(root)
    metrics = resize(resize_params(**changes), raw=raw, verdicts=verdicts, pixels=out, facts=root / "facts")
    header = pack.read_header(out)
    data = b"".join((out / name).read_bytes() for name, _ in header.shards)
    return header, np.frombuffer(data, np.uint8).reshape(-1, *header.spec.picture_shape), metrics


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


@pytest.mark.slow(8)
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
        resize(resize_params(), raw=other / "data/raw", verdicts=tmp_path / "data/clean", pixels=other / "p",
               facts=tmp_path / "facts")  # fmt: skip


def counted(monkeypatch):
    """The number of pictures handed to workers, as a list that grows."""
    numbers = []
    original = parallel.ordered

    def ordered(work, batches, **options):
        batches = list(batches)
        numbers.append(sum(map(len, batches)))
        return original(work, batches, **options)

    monkeypatch.setattr(parallel, "ordered", ordered)
    return numbers


def test_a_refresh_scales_what_is_new_and_gives_the_bytes_of_a_build_at_once(tmp_path, monkeypatch):
    source = folder(tmp_path, {f"{n}.png": png(n, 24) for n in range(5)})
    packed(tmp_path)
    (source / "0.png").unlink()
    folder(tmp_path, {f"{n}.png": png(n, 24) for n in range(5, 8)})
    gather(tmp_path)
    judge(tmp_path)
    scaled = counted(monkeypatch)
    packed(tmp_path, gather_again=False)
    refreshed = digests(tmp_path / "data/pixels")
    packed(tmp_path, gather_again=False)
    assert scaled == [3], "nothing new, no workers"
    for path in (tmp_path / "facts").rglob("*.facts"):
        path.unlink()
    header, images, _ = packed(tmp_path, gather_again=False)
    assert scaled == [3, 7] and digests(tmp_path / "data/pixels") == refreshed
    gone = np.frombuffer(scale([(png(0, 24), "#ffffff")], side=16, fit="pad")[0], np.uint8).reshape(16, 16, 3)
    assert header.rows == 7 and not (images == gone).all((1, 2, 3)).any(), "a withdrawn picture is in the pack"


def test_another_size_or_fit_is_another_picture(tmp_path):
    folder(tmp_path, {f"{n}.png": encoded(pixels(n, 48)[:30]) for n in range(2)})
    crop = packed(tmp_path, fit="crop")[1].copy()
    pad = packed(tmp_path, gather_again=False, fit="pad")[1]
    assert (crop != pad).any()
    assert packed(tmp_path, gather_again=False, side=8)[0].spec.shape == (3, 8, 8)
    np.testing.assert_array_equal(packed(tmp_path, gather_again=False, fit="crop")[1], crop)


def test_equal_bytes_on_two_mattes_are_two_pictures(tmp_path):
    clear = encoded(np.zeros((16, 16, 4), np.uint8))
    white, black = (scale([(clear, matte)], side=16, fit="pad")[0] for matte in ("#ffffff", "#000000"))
    assert set(white) == {255} and set(black) == {0}


def test_shards_of_a_pack_end_where_they_should_however_the_images_come(tmp_path):
    rows, spec = [bytes([n]) * 12 for n in range(7)], image((3, 2, 2))
    for name, blobs in (("one", rows), ("all", [b"".join(rows)]), ("some", [b"".join(rows[:5]), b"".join(rows[5:])])):
        (tmp_path / name).mkdir()
        pack.write(tmp_path / name, blobs, spec=spec, keys=["00" * 32] * 7, classes=(), class_ids=[-1] * 7,
                   shard_bytes=36)  # fmt: skip
    assert digests(tmp_path / "one") == digests(tmp_path / "all") == digests(tmp_path / "some")
    assert [rows for _, rows in pack.read_header(tmp_path / "all").shards] == [3, 3, 1]
    with pytest.raises(ValueError, match="whole samples"):
        pack.write(tmp_path, [bytes(13)], keys=["00" * 32], classes=(), class_ids=[-1], spec=spec)


def test_large_and_small_pictures_are_scaled_alike():
    large = pixels(1, 300)
    one = np.frombuffer(scale([(encoded(large), "#ffffff")], side=32, fit="pad")[0], np.uint8)
    other = np.asarray(Image.fromarray(large).resize((32, 32), Image.Resampling.BICUBIC)).ravel()
    assert scaling.LARGE < 300 * 300 and np.abs(one.astype(int) - other).max() <= 1


def test_a_picture_is_called_in_the_store_as_facts_says():
    kept = pa.table({"sha256": ["ab", "cd"], "matte": ["#ffffff", "#000000"]})
    assert _names(kept).tolist() == facts.keys([facts.key("ab", "#ffffff"), facts.key("cd", "#000000")]).tolist()
