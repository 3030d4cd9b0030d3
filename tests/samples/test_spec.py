"""A sample is what its spec says, and no spec says what cannot be."""

import dataclasses
import json

import pytest

from components.samples import spec

IMAGE = spec.image((3, 24, 32))


@pytest.mark.parametrize("one", [
    IMAGE,
    spec.SampleSpec(kind="clip", shape=(4, 8, 16, 16), dtype="f16", scale=0.13, shift=0.5, sigma_data=1.02),
    spec.SampleSpec(kind="tensor", shape=(7,), dtype="f32", scale=-1.0, shift=0.0, sigma_data=3.0),
], ids=lambda one: one.kind)  # fmt: skip
def test_a_spec_survives_json(one):
    assert spec.of_plain(json.loads(json.dumps(one.plain()))) == one


def test_bytes_of_images_are_values_from_minus_one_to_one():
    assert [0 * IMAGE.scale + IMAGE.shift, 255 * IMAGE.scale + IMAGE.shift] == pytest.approx([-1, 1])
    assert IMAGE.stored_shape == (24, 32, 3)
    assert IMAGE.bytes == 3 * 24 * 32


@pytest.mark.parametrize(("shape", "plain"), [
    ((8, 8, 3), {"side": 8, "channels": 3}), ((8, 12, 1), {"height": 8, "width": 12, "channels": 1}),
])  # fmt: skip
def test_sizes_of_pictures_survive_json(shape, plain):
    assert spec.sizes(shape) == plain
    assert spec.sized(json.loads(json.dumps({"rows": 3, **plain}))) == shape


@pytest.mark.parametrize("data", [{}, {"side": 8}, {"width": 8, "channels": 3}, {"side": "8", "channels": 3},
                                  {"side": 0, "channels": 3}, {"side": True, "channels": 1}])  # fmt: skip
def test_sizes_that_are_none_are_refused(data):
    with pytest.raises(ValueError, match="must be whole numbers above 0"):
        spec.sized(data)


def test_the_size_in_words_is_width_by_height():
    assert IMAGE.size == "32 × 24"


@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "sound"}, "kind 'sound' is not one of image, latent"),
    ({"shape": (3, 24)}, r"of kind image must be \(C, H, W\)"),
    ({"shape": (3, 0, 2)}, "must be whole numbers above 0"),
    ({"shape": ()}, "must be whole numbers above 0"),
    ({"dtype": "f64"}, "dtype 'f64' is not one of u8, f16, f32"),
    ({"scale": 0.0}, "scale not 0"),
    ({"shift": float("nan")}, "must be finite"),
    ({"sigma_data": 0.0}, "sigma_data 0.0 must be finite and above 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(IMAGE, **changes)


@pytest.mark.parametrize("data", [{}, {**IMAGE.plain(), "side": 3}, {**IMAGE.plain(), "shape": 3}])
def test_plain_data_that_is_no_spec_is_refused(data):
    with pytest.raises(ValueError, match=r"spec has|must be a list"):
        spec.of_plain(data)
