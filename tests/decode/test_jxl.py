"""JPEG XL: its size is known before anything is unpacked, and it shows what was saved."""

import io

import numpy as np
import pytest
from data_fixtures import WHITE, pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from showing import saved, show, why

from components.decode import jxl, stripped
from components.decode.images import Damaged, decode

BOXES = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def header(*fields):
    """A bare file of these fields, (bits, number) each, the lowest bit first."""
    text = "".join(f"{value:0{count}b}"[::-1] for count, value in fields)
    return b"\xff\x0a" + int(text[::-1], 2).to_bytes(-(-len(text) // 8), "little") + bytes(8)


def box(kind, body):
    return (len(body) + 8).to_bytes(4, "big") + kind + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_lossless_is_to_the_bit(mode):
    array = pixels(1, 40, 4)
    array[..., 3] = 255
    image = Image.fromarray(array).convert(mode)
    data = saved(image, "JXL", lossless=True)
    assert jxl.size(data) == (40, 40)
    np.testing.assert_array_equal(show(data), np.asarray(image.convert("RGB")))


def test_what_is_transparent_lies_on_the_matte():
    array = np.dstack([pixels(1), np.zeros((32, 32), np.uint8)])
    assert (show(saved(Image.fromarray(array), "JXL", lossless=True), "#204060") == (0x20, 0x40, 0x60)).all()


def test_deep_grey_and_fractions_are_shown_in_eight_bits_of_srgb():
    """The encoder says of both that they are linear light."""
    light = np.linspace(0.25, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    wanted = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    for image in (Image.fromarray(np.round(light * 65_535).astype(np.uint16)), Image.fromarray(light)):
        found = show(saved(image, "JXL", lossless=True))[..., 0]
        assert np.abs(found - wanted).max() < 2


def test_a_jpeg_that_was_packed_without_loss_is_read_as_the_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(1, 64)[:32]).save(tmp_path / "a.jpg", exif=exif.tobytes())
    with Image.open(tmp_path / "a.jpg") as image:
        stream = io.BytesIO()
        import pillow_jxl  # noqa: F401

        image.save(stream, "JXL", lossless_jpeg=True)
    picture = decode(stream.getvalue(), WHITE, max_pixels=10**6)
    assert (picture.format, picture.pixels.shape) == ("JXL", (64, 32, 3))
    np.testing.assert_array_equal(picture.pixels, show((tmp_path / "a.jpg").read_bytes()))


def test_exif_beside_the_picture_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(pixels(1)[:16]), "JXL", exif=exif.tobytes(), use_container=True)
    assert show(data).shape == (16, 32, 3), "the codestream's own orientation counts, and the decoder applies it"


@given(st.integers(0, 2**30 - 1), st.integers(0, 2**30 - 1), st.integers(0, 7))
def test_any_size_is_read_from_the_header_alone(wide, high, ratio):
    sides = [(2, 3), (30, high), (3, ratio), *([] if ratio else [(2, 3), (30, wide)])]
    width = (high + 1) * RATIOS[ratio - 1][0] // RATIOS[ratio - 1][1] if ratio else wide + 1
    data = header((1, 0), *sides, (1, 1))
    assert jxl.size(data) == (width, high + 1)
    boxed = BOXES + box(b"jxll", b"\5") + box(b"jxlp", b"\0\0\0\0" + data)
    assert jxl.size(boxed) == jxl.size(data)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(jxl, "read", pytest.fail)
    assert why(header((1, 0), (2, 3), (30, 2**30 - 1), (3, 1), (1, 1))) == "too_large"


@pytest.mark.parametrize(
    ("extra", "says"),
    [([(1, 0), (1, 0), (1, 1)], "moves"), ([(1, 0), (1, 1)], "preview"),
     ([(1, 1), (1, 1), (5, 3), (3, 1), (1, 0), (1, 1)], "moves")],
)  # fmt: skip
def test_what_is_no_still_picture_is_told(extra, says):
    data = header((1, 1), (5, 3), (3, 1), (1, 0), (1, 1), (3, 0), *extra)
    with pytest.raises(Damaged, match=says) as caught:
        jxl.size(data)
    assert caught.value.reason == "format"


@pytest.mark.parametrize(
    "data", [b"\xff\x0a", BOXES, BOXES + box(b"jxlc", b"nothing"), BOXES + b"\0\0\0\4jxlc", BOXES[:12] + b"\0" * 99]
)
def test_boxes_without_a_picture_are_damaged(data):
    assert why(data) == "damaged"


@given(st.binary(max_size=80))
def test_no_bytes_are_a_bug(data):
    for start in (b"\xff\x0a", BOXES, BOXES + b"\0\0\1\0jxlc\xff\x0a"):
        assert why(start + data) in ("damaged", "format", "too_large")


def test_without_the_plugin_the_line_says_how_to_get_it(monkeypatch):
    data = saved(Image.fromarray(pixels(1)), "JXL")
    monkeypatch.setitem(__import__("sys").modules, "pillow_jxl", None)
    with pytest.raises(Damaged, match=r'pip install "stillroom\[jxl\]"') as caught:
        decode(data, WHITE, max_pixels=10**6)
    assert caught.value.reason == "format"


def test_what_it_says_beside_the_picture_is_not_taken_out():
    with pytest.raises(Damaged, match="nothing here takes out what JPEG XL files say"):
        stripped.stripped(saved(Image.fromarray(pixels(1)), "JXL"))
