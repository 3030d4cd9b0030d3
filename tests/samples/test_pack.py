"""Rows of a pack come back as written; a pack says what its images are, and packs from before it did still load."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.base.errors import UserError
from components.dataset import tensors
from components.samples import pack, spec


def packed(folder, channels=3):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, channels), np.uint8)
    pack.write(
        folder, images, keys=["00" * 32] * 7, classes=[], class_ids=[-1] * 7, spec=spec.image((channels, 4, 4)),
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
    pack.write(folder, [images.tobytes()], keys=["00" * 32] * count, classes=(), class_ids=[-1] * count,
               spec=spec.image(shape), **changes)  # fmt: skip
    return pack.read_header(folder)


@pytest.mark.parametrize("shape", [(3, 24, 32), (1, 8, 8)])
def test_the_spec_travels_with_the_pack_and_its_deviation_is_measured(tmp_path, shape):
    channels, height, width = shape
    images = np.random.default_rng(0).integers(0, 200, (5, height, width, channels), np.uint8)
    header = written(tmp_path, images, shape, shard_bytes=2 * images[0].size)
    assert (header.spec.shape, header.spec.bytes, len(header.shards)) == (shape, images[0].size, 3)
    assert header.spec.sigma_data == pytest.approx((images / 127.5 - 1).std(), rel=1e-3)


def test_an_older_header_names_side_and_channels_alone(tmp_path):
    written(tmp_path, np.zeros((4, 8, 8, 3), np.uint8), (3, 8, 8))
    path = tmp_path / "header.json"
    old = json.loads(path.read_text("utf-8"))
    assert (old["side"], old["channels"]) == (8, 3)
    del old["spec"]
    path.write_text(json.dumps(old), "utf-8")
    assert pack.read_header(tmp_path).spec == spec.image((3, 8, 8), spec.ASSUMED)


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
    (("format",), [None, 0, True, "1", 3, 10**400]),
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


RANKS = {"image": 3, "latent": 3, "mel": 3, "clip": 4}


@st.composite
def specs_of_all_kinds(draw):
    kind = draw(st.sampled_from([*RANKS, "tensor"]))
    rank = RANKS.get(kind) or draw(st.integers(1, 5))
    number = st.floats(0.01, 100).map(lambda value: float(f"{value:.3g}"))
    return spec.SampleSpec(
        kind=kind, shape=tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))),
        dtype=draw(st.sampled_from(["u8", "f16", "f32"])), scale=draw(number) * draw(st.sampled_from([1, -1])),
        shift=draw(number) - 1, sigma_data=draw(number),
    )  # fmt: skip


def stored(one, rows, seed):
    source = np.random.default_rng(seed)
    shape = (rows, *one.stored_shape)
    if one.dtype == "u8":
        return source.integers(0, 256, shape, np.uint8)
    return (source.standard_normal(shape) * 3 + 50).astype(spec.NUMPY[one.dtype])


def put(folder, one, samples, *blobs, **changes):
    rows = len(samples)
    pack.write(folder, blobs or (samples.tobytes(),), spec=one, keys=["00" * 32] * rows, classes=(),
               class_ids=[-1] * rows, **changes)  # fmt: skip
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FAR = spec.SampleSpec(kind="tensor", shape=(2, 3), dtype="f32", scale=1.0, shift=0.0, sigma_data=1.0)


@settings(max_examples=40, deadline=None)
@given(specs_of_all_kinds(), st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
@example(dataclasses.replace(FAR, kind="clip", shape=(2, 3, 4, 1), dtype="f16"), 5, 2, 0)
def test_samples_of_any_kind_rank_and_dtype_come_back_as_written(one, rows, per_shard, seed):
    samples = stored(one, rows, seed)
    with tempfile.TemporaryDirectory() as top:
        whole, single = Path(top) / "whole", Path(top) / "single"
        for folder in (whole, single):
            folder.mkdir()
        many = put(whole, one, samples, shard_bytes=per_shard * one.bytes)
        again = put(single, one, samples, *map(bytes, samples), shard_bytes=per_shard * one.bytes)
        assert again == many, "the portions in which samples come decide nothing"
        header = pack.read_header(whole)
        assert dataclasses.replace(header.spec, sigma_data=one.sigma_data) == one
        wanted = [*range(rows), 0]
        assert list(pack.read_rows(whole, header, wanted)) == [samples[row].tobytes() for row in wanted]
        pixels = tensors.Pixels(whole)
        assert torch.equal(pixels.gather(wanted), torch.from_numpy(samples)[wanted])
        values = samples.astype(np.float64) * one.scale + one.shift
        np.testing.assert_allclose(pixels.batch(wanted), np.moveaxis(values, -1, 1)[wanted], rtol=1e-5, atol=1e-4)
        if (deviation := values.std()) > 0:
            assert header.spec.sigma_data == pytest.approx(deviation, rel=1e-3)


def test_the_deviation_keeps_its_digits_where_the_mean_is_far(tmp_path):
    samples = (np.random.default_rng(0).standard_normal((50, 3, 2)) + 30_000).astype("<f4")
    put(tmp_path, FAR, samples)
    assert pack.read_header(tmp_path).spec.sigma_data == float(f"{samples.astype('f8').std():.4g}")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused(tmp_path, wrong):
    samples = np.zeros((5, 3, 2), "<f4")
    samples[3, 1, 1] = wrong
    with pytest.raises(UserError, match="sample 3 has a number that is not finite"):
        put(tmp_path, FAR, samples)


def test_what_older_readers_cannot_read_has_a_format_that_they_refuse(tmp_path):
    for name, one, number in (
        ("bytes", spec.image((3, 2, 2)), 1), ("wide", spec.image((3, 2, 4)), 1),
        ("floats", dataclasses.replace(spec.image((3, 2, 2)), dtype="f16"), 2),
        ("latents", dataclasses.replace(spec.image((3, 2, 2)), kind="latent"), 2),
    ):  # fmt: skip
        (folder := tmp_path / name).mkdir()
        put(folder, one, stored(one, 2, 0))
        raw = json.loads((folder / "header.json").read_text("utf-8"))
        assert (raw["format"], "side" in raw) == (number, name == "bytes")
        assert [shard["file"] for shard in raw["shards"]] == [f"pixels-00000.{one.dtype}"]


@pytest.mark.parametrize(("keys", "value", "words"), [
    (("spec", "dtype"), "u8", "the name of a shard of dtype u8 is pixels-NNNNN.u8, not 'pixels-00000.f16'"),
    (("spec", "dtype"), "f32", "the name of a shard of dtype f32 is pixels-NNNNN.f32"),
    (("shards", 0, "file"), "pixels-00000.f32", "not 'pixels-00000.f32'"),
    (("shards", 0, "file"), "pixels-00000.f16.f16", "not 'pixels-00000.f16.f16'"),
    (("shards", 0, "file"), "../pixels-00000.f16", "not '../pixels-00000.f16'"),
    (("spec", "shape"), [2, 3, 5], "48 bytes where the header promises 60"),
    (("spec", "kind"), "clip", r"shape \(2, 3, 4\) of kind clip must be \(C, T, H, W\)"),
    (("format",), 1, "format 1 of kind tensor and dtype f16, which need 2"),
    (("side",), 4, r"side 4 contradicts the spec's shape \(2, 3, 4\)"),
])  # fmt: skip
def test_a_header_that_contradicts_its_shards_is_one_line(tmp_path, keys, value, words):
    one = dataclasses.replace(FAR, shape=(2, 3, 4), dtype="f16")
    put(tmp_path, one, stored(one, 1, 0))
    path = tmp_path / "header.json"
    raw = json.loads(path.read_text("utf-8"))
    _set(*keys, value=value)(raw)
    path.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(UserError, match=words) as caught:
        pack.read_header(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_shows_pictures_says_what_it_cannot_show(tmp_path):
    assert spec.image((3, 2, 4)).picture_shape == (2, 4, 3)
    with pytest.raises(UserError, match="of kind tensor and dtype f32: this works for images as bytes only"):
        _ = FAR.picture_shape
