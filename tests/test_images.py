"""The pixel rule: what each kind of file shows, and what is damaged."""

import io
import struct
import zlib

import numpy as np
import pytest
from data_fixtures import WHITE, encoded, pixels, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components import jpeg
from components import png as png_walk
from components.images import Damaged, decode


def show(data, matte=WHITE, max_pixels=10**6):
    return decode(data, matte, max_pixels=max_pixels).pixels


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def why(data, **options):
    with pytest.raises(Damaged) as caught:
        show(data, **options)
    assert "\n" not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_each_format_is_read_as_rgb(kind):
    array = pixels(1)
    picture = decode(encoded(array, kind, **({"lossless": True} if kind == "WEBP" else {})), WHITE, max_pixels=10**6)
    assert picture.format == kind and picture.pixels.dtype == np.uint8
    if kind in ("JPEG", "GIF"):
        assert np.abs(picture.pixels.astype(int) - array).mean() < 20
    else:
        np.testing.assert_array_equal(picture.pixels, array)


@pytest.mark.parametrize("matte", ["#ffffff", "#000000", "#204060"])
def test_transparency_lies_on_the_matte_and_hidden_colours_never_show(matte):
    ground = np.frombuffer(bytes.fromhex(matte[1:]), np.uint8)
    array = np.dstack([pixels(1), np.zeros((32, 32), np.uint8)])  # colours under alpha 0
    np.testing.assert_array_equal(show(encoded(array), matte), np.broadcast_to(ground, (32, 32, 3)))
    array[..., 3] = 255
    np.testing.assert_array_equal(show(encoded(array), matte), array[..., :3])
    array[..., 3] = 128
    half = (array[..., :3].astype(int) * 128 + ground.astype(int) * 127) / 255
    assert np.abs(show(encoded(array), matte) - half).max() <= 1


def test_every_way_to_say_transparent_shows_the_matte():
    grey_alpha = Image.merge("LA", [Image.new("L", (4, 4), 7), Image.new("L", (4, 4), 0)])
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    shown = {
        "LA": saved(grey_alpha),
        "palette": saved(palette, transparency=0),
        "gif": saved(palette, "GIF", transparency=0),
        "colour key": saved(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3)),
        "grey key": saved(Image.new("L", (4, 4), 5), transparency=5),
        "16-bit key": saved(Image.fromarray(np.full((4, 4), 300, np.uint16)), transparency=300),
        "webp": saved(Image.new("RGBA", (4, 4), (1, 2, 3, 0)), "WEBP", lossless=True, exact=True),
    }
    for name, data in shown.items():
        assert (show(data, "#4080c0") == (0x40, 0x80, 0xC0)).all(), name


def test_palette_without_transparency_keeps_its_colours():
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([9, 9, 9, 200, 10, 20])
    assert (show(saved(palette)) == (200, 10, 20)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    deep = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    np.testing.assert_array_equal(show(saved(Image.fromarray(deep), kind))[0, :, 0], [0, 1, 128, 255])


def test_float_pixels_are_scaled_when_their_range_is_plain_and_refused_when_not():
    plain = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(show(saved(Image.fromarray(plain), "TIFF"))[0, :, 2], [0, 128, 255])
    for odd in ([[0.0, 300.0]], [[-1.0, 1.0]], [[0.0, np.nan]]):
        assert why(saved(Image.fromarray(np.array(odd, np.float32)), "TIFF")) == "format"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_exif_says(orientation):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = 255  # a bright corner, top left
    image = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = show(saved(image, "JPEG", exif=exif, quality=95))
    assert found.shape[:2] == ((32, 16) if orientation >= 5 else (16, 32))
    top, left = found.shape[0] - 1, found.shape[1] - 1
    corner = {
        1: (0, 0),
        2: (0, left),
        3: (top, left),
        4: (top, 0),
        5: (0, 0),
        6: (0, left),
        7: (top, left),
        8: (top, 0),
    }
    assert found[corner[orientation]].min() > 200


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert (show(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_half_a_file_is_damaged(kind, left):
    data = encoded(pixels(1, 64), kind)
    assert why(data[: int(len(data) * left)]) == "damaged"


@given(st.data())
def test_any_flipped_bit_of_a_png_is_damaged(data):
    blob = bytearray(png(1, 8))
    at = data.draw(st.integers(8, len(blob) - 1))
    blob[at] ^= 1 << data.draw(st.integers(0, 7))
    assert why(bytes(blob)) in ("damaged", "too_large")


@given(st.binary(max_size=200), st.sampled_from([b"", b"GIF89a", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF"]))
def test_rubbish_is_a_verdict_and_never_an_error(rubbish, start):
    assert why(start + rubbish) in ("damaged", "not_an_image", "format", "too_large")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def handmade(rows, *, height, interlaced=0):
    header = struct.pack(">IIBBBBB", 4, height, 8, 0, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + bytes(4) for _ in range(rows)))
    return png_walk.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_png_with_too_few_rows_is_damaged_though_every_checksum_fits():
    assert show(handmade(8, height=8)).shape == (8, 4, 3)
    assert why(handmade(4, height=8)) == "damaged"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (9, 17)])
def test_interlaced_pngs_are_whole(width, height):
    # Raw size by the definition of Adam7: each pass holds the pixels whose (x, y) fall on its grid.
    wanted = 0
    for left, top, across, down in png_walk._PASSES:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        wanted += rows * (1 + columns) if columns else 0
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    for missing, said in ((0, ""), (1, "pixels")):
        body = chunk(b"IDAT", zlib.compress(bytes(wanted - missing)))
        data = png_walk.SIGNATURE + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
        assert said in png_walk.trouble(data) and bool(said) == bool(png_walk.trouble(data))


def claiming(data, factor):
    """``data``, a JPEG, whose header claims ``factor`` times its rows."""
    at = data.index(b"\xff\xc0") + 5
    (height,) = struct.unpack_from(">H", data, at)
    return data[:at] + struct.pack(">H", height * factor) + data[at + 2 :]


@pytest.mark.parametrize("quality", [50, 95])
def test_a_jpeg_that_claims_more_rows_than_it_has_is_damaged(quality):
    data = encoded(pixels(1, 64), "JPEG", quality=quality)
    assert why(claiming(data, 2)) == "damaged"
    assert "cannot hold" in jpeg.trouble(data, 13_000, 13_000)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_a_plain_ground_is_whole(subsampling, progressive):
    array = pixels(1, 64)
    array[30:] = 255
    assert show(encoded(array, "JPEG", subsampling=subsampling, progressive=progressive)).shape == (64, 64, 3)
    assert show(encoded(np.full((64, 64, 3), 9, np.uint8), "JPEG", optimize=True)).shape == (64, 64, 3)


def test_too_large_is_told_from_the_header_alone():
    assert why(encoded(pixels(1, 64)), max_pixels=64 * 64 - 1) == "too_large"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = png_walk.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert why(huge) == "too_large"


def test_other_formats_and_other_files_are_told_apart():
    assert why(saved(Image.new("RGB", (4, 4)), "PPM")) == "format"
    assert why(b"%PDF-1.7 hello") == "not_an_image"
    assert why(b"") == "not_an_image"
