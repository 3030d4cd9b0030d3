"""The pixel rule: what each kind of file shows."""

import struct
import zlib

import numpy as np
import pytest
from data_fixtures import WHITE, encoded, pixels
from PIL import Image, ImageCms
from showing import chunk, saved, show, why

from components.decode import heif
from components.decode import png as png_walk
from components.decode.images import Damaged, decode


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "AVIF", "HEIF", "JXL", "PPM"])
def test_each_format_is_read_as_rgb(kind):
    array = pixels(1)
    picture = decode(encoded(array, kind, **({"lossless": True} if kind == "WEBP" else {})), WHITE, max_pixels=10**6)
    assert picture.format == kind and picture.pixels.dtype == np.uint8
    if kind in ("JPEG", "GIF", "AVIF", "HEIF", "JXL"):
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


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # fractions are from black to white
        ([0.0, 0.1, 0.2], [0, 26, 51]),  # whether they use all of it or not
        ([-1.0, 0.0, 1.0], [0, 128, 255]),  # any other range is stretched
        ([100.0, 200.0, 350.0], [0, 102, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
    ],
)
def test_float_pixels_are_scaled_by_their_range(values, shown):
    found = show(saved(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    np.testing.assert_array_equal(found, np.repeat(np.array(shown)[None, :, None], 3, 2))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_float_pixels_that_are_no_numbers_are_damage(odd):
    assert why(saved(Image.fromarray(np.array([[0.0, odd]], np.float32)), "TIFF")) == "damaged"


def deep_png(colour, values, key=None):
    """A PNG of 16 bits a colour; Pillow writes none."""
    values = np.array(values, ">u2")
    header = struct.pack(">IIBBBBB", len(values), 1, 16, colour, 0, 0, 0)
    hidden = b"" if key is None else chunk(b"tRNS", np.array(key, ">u2").tobytes())
    body = chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes()))
    return png_walk.SIGNATURE + chunk(b"IHDR", header) + hidden + body + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_scaled_and_its_hidden_colour_is_told_from_its_neighbour():
    colours = [[300, 400, 500], [300, 400, 501], [65_535, 0, 32_896]]
    assert show(deep_png(2, colours)).tolist() == [[[1, 2, 2], [1, 2, 2], [255, 0, 128]]]
    hidden = show(deep_png(2, colours, key=colours[0]), "#4080c0")
    assert hidden.tolist() == [[[0x40, 0x80, 0xC0], [1, 2, 2], [255, 0, 128]]]
    half = show(deep_png(6, [[65_535, 0, 0, 0], [65_535, 0, 0, 65_535]]), "#4080c0")
    assert half.tolist() == [[[0x40, 0x80, 0xC0], [255, 0, 0]]]


@pytest.mark.parametrize(("depth", "row", "shown"), [(1, 0b0100_0000, [0, 255]), (2, 0b0001_0000, [0, 85]),
                                                     (4, 0b0000_0001, [0, 17])])  # fmt: skip
def test_a_hidden_grey_of_few_bits_shows_the_matte(depth, row, shown):
    header = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    start, body = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes([0, row]))) + chunk(b"IEND", b"")
    assert show(png_walk.SIGNATURE + start + body)[0, :, 0].tolist() == shown
    key = chunk(b"tRNS", struct.pack(">H", 1))
    assert show(png_walk.SIGNATURE + start + key + body, "#4080c0").tolist() == [[[0, 0, 0], [0x40, 0x80, 0xC0]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_may_lie_either_way_round(order):
    values = np.array([[0, 257, 32_896, 65_535]], order + "u2")
    fields = [(256, 3, 4), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 1), (279, 4, 8)]
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("I" if kind == 4 else "Hxx"), value)
        for tag, kind, value in fields
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 16) + values.tobytes()
    data = head + struct.pack(order + "H", len(fields)) + entries + bytes(4)
    assert show(data)[0, :, 1].tolist() == [0, 1, 128, 255]


def profile(kind):
    """The bytes of a small profile: XYZ shows other colours than sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_colour_profiles_are_applied(kind):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True},
               "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(kind, {})  # fmt: skip
    plain = show(encoded(pixels(1), kind, **options))
    swapped = profile("sRGB").replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    found = show(encoded(pixels(1), kind, icc_profile=swapped, **options))  # its red is what sRGB calls blue
    assert np.abs(found.astype(int) - plain[..., ::-1]).max() <= 3
    np.testing.assert_array_equal(show(encoded(pixels(1), kind, icc_profile=profile("sRGB"), **options)), plain)


def test_a_profile_touches_colours_and_not_the_matte():
    swapped = profile("sRGB").replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    half = np.array([[[200, 10, 20, 255], [200, 10, 20, 0]]], np.uint8)
    found = show(encoded(half, icc_profile=swapped), "#4080c0")
    assert np.abs(found[0, 0].astype(int) - (20, 10, 200)).max() <= 2
    assert found[0, 1].tolist() == [0x40, 0x80, 0xC0]


@pytest.mark.parametrize("broken", [b"rubbish", profile("sRGB")[:200], profile("LAB")])
def test_a_profile_that_cannot_be_used_is_left_out_and_told(broken):
    picture = decode(encoded(pixels(1), icc_profile=broken), WHITE, max_pixels=10**6)
    np.testing.assert_array_equal(picture.pixels, pixels(1))
    assert "profile" in picture.note
    assert decode(encoded(pixels(1)), WHITE, max_pixels=10**6).note == ""


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_ink_without_a_profile_is_shown_by_formula(kind):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:8, :, 0], ink[8:, :, 3] = 255, 128  # cyan above, half black below
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    found = show(saved(Image.frombytes("CMYK", (16, 16), ink.tobytes()), kind, **options))
    assert np.abs(found[0, 0].astype(int) - (0, 255, 255)).max() <= 2
    assert np.abs(found[-1, -1].astype(int) - 127).max() <= 2


def test_ink_as_luma_and_chroma_is_the_same_ink():
    image = Image.frombytes("CMYK", (16, 16), np.full((16, 16, 4), (200, 100, 50, 30), np.uint8).tobytes())
    data = saved(image, "JPEG", quality=100, subsampling=0)
    luma = bytearray(saved(Image.merge("CMYK", [*Image.merge(
        "RGB", [c.point(lambda v: 255 - v) for c in image.split()[:3]]).convert("YCbCr").split(), image.split()[3]
    ]), "JPEG", quality=100, subsampling=0))  # fmt: skip
    at = luma.index(b"Adobe")
    assert luma[at + 11] == 0
    luma[at + 11] = 2  # says YCCK
    assert show(bytes(luma)).shape == show(data).shape


def test_lab_is_shown_in_rgb():
    grey = Image.merge("LAB", [Image.new("L", (4, 4), v) for v in (255, 128, 128)])
    assert (show(saved(grey, "TIFF")) >= 250).all()


def test_luma_and_chroma_in_a_tiff_are_shown_in_rgb():
    found = show(saved(Image.fromarray(pixels(1)).convert("YCbCr"), "TIFF"))
    assert np.abs(found.astype(int) - pixels(1)).max() <= 4


UPRIGHT = {
    "JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "TIFF tiff_lzw": {}, "TIFF jpeg": {},
    "AVIF": {"quality": 90}, "HEIF": {"quality": 90},
}  # fmt: skip


@pytest.mark.parametrize("kind", UPRIGHT)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_exif_says(orientation, kind):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = 255  # a bright corner, top left
    image = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = orientation
    form, _, compression = kind.partition(" ")
    how = {"compression": compression} if compression else {}
    # A HEIC is turned by properties of its own, which the encoder writes for EXIF that is given to it as bytes.
    found = show(saved(image, form, exif=exif.tobytes() if kind == "HEIF" else exif, **UPRIGHT[kind], **how))
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
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (np.abs(show(data).astype(int) - (255, 0, 0)) <= 2 * (kind == "AVIF")).all(), kind


def deep_animation(*shown, hidden_first):
    """An APNG of 16 bits a colour: 4 x 1 pictures in the colours ``shown``, the first one a part of it or not."""
    header = struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)
    parts, number = [], 0
    for at, colour in enumerate(shown):
        body = zlib.compress(b"\0" + np.array([colour] * 4, ">u2").tobytes())
        if at or not hidden_first:
            control = struct.pack(">IIIIIHHBB", number, 4, 1, 0, 0, 1, 10, 0, 0)
            parts.append(chunk(b"fcTL", control))
            number += 1
        if at:
            body = struct.pack(">I", number) + body
            number += 1
        parts.append(chunk(b"fdAT" if at else b"IDAT", body))
    count = struct.pack(">II", len(shown) - hidden_first, 0)
    start = png_walk.SIGNATURE + chunk(b"IHDR", header) + chunk(b"acTL", count)
    return start + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("hidden_first", [False, True])
def test_the_first_frame_of_a_deep_animation_counts(hidden_first):
    data = deep_animation([65_535, 0, 0], [0, 65_535, 0], [0, 0, 65_535], hidden_first=hidden_first)
    assert show(data).tolist() == [[[255, 0, 0]] * 4]


def with_part(data, kind, body):
    """``data``, a PNG, with one more part behind its header."""
    return data[:33] + chunk(kind, body) + data[33:]


def notes(text):
    """Every way in which a PNG can hold the notes ``text``, and as XMP."""
    return {
        "text": (b"tEXt", b"Comment\0" + text),
        "packed text": (b"zTXt", b"Comment\0\0" + zlib.compress(text)),
        "international text": (b"iTXt", b"Comment\0\0\0\0\0" + text),
        "packed international text": (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(text)),
        "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text)),
        "plain xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text),
        "exif": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
    }


@pytest.mark.parametrize("how", notes(b""))
@pytest.mark.parametrize("size", [2**20 + 1, 2**21 + 1])
def test_long_notes_in_a_png_are_no_damage(how, size, monkeypatch):
    monkeypatch.setattr(png_walk, "LONGEST", 2**21)  # 16 MiB take longer
    np.testing.assert_array_equal(show(with_part(encoded(pixels(1)), *notes(b" " * size)[how])), pixels(1))


def test_a_long_profile_in_a_png_is_used_and_one_too_long_is_left_out_and_told(monkeypatch):
    monkeypatch.setattr(png_walk, "LONGEST", 2**21)
    swapped = profile("sRGB").replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    long = encoded(pixels(1), icc_profile=swapped + bytes(2**20))
    np.testing.assert_array_equal(show(long), show(encoded(pixels(1), icc_profile=swapped)))
    picture = decode(encoded(pixels(1), icc_profile=swapped + bytes(png_walk.LONGEST)), WHITE, max_pixels=10**6)
    np.testing.assert_array_equal(picture.pixels, pixels(1))
    assert "profile is too long" in picture.note


def test_the_orientation_in_the_notes_of_a_png_still_counts():
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    wide = encoded(pixels(1)[:16])
    assert show(wide).shape == (16, 32, 3)
    assert show(with_part(wide, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)).shape == (32, 16, 3)


@pytest.mark.parametrize(("data", "shown"), [
    (b"P1 2 1\n0 1", [255, 0]), (b"P4\n2 1\n\x40", [255, 0]), (b"P2 2 1 9 0 9", [0, 255]),
    (b"P5 2 1 255\n\x00\x80", [0, 128]),
    (b"P5 2 1 65535\n\x00\x00\xff\xff", [0, 255]), (b"P3 # so\n2 1 255 0 0 0 7 7 7", [0, 7]),
])  # fmt: skip
def test_netpbm_in_text_and_bytes_black_and_white_and_deep(data, shown):
    assert show(data).tolist() == [[[value] * 3 for value in shown]]


def test_an_avif_may_be_seen_through():
    found = show(saved(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "AVIF", quality=100), "#204060")
    assert (np.abs(found.astype(int) - (0x20, 0x40, 0x60)) <= 2).all()


def test_a_heic_is_told_from_an_avif_and_shown_on_the_matte_and_with_its_first_picture():
    found = show(saved(Image.new("RGBA", (64, 64), (9, 9, 9, 0)), "HEIF", quality=100), "#204060")
    assert (np.abs(found.astype(int) - (0x20, 0x40, 0x60)) <= 2).all()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    found = show(saved(frames[0], "HEIF", save_all=True, append_images=frames[1:], quality=100))
    assert (np.abs(found.astype(int) - (255, 0, 0)) <= 3).all()
    of_any = b"\0\0\0\x1cftypmif1\0\0\0\0miaf%smif1"
    assert heif.is_heif(of_any % b"heic") and not heif.is_heif(of_any % b"avif")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert show(saved(Image.new("RGB", (64, 32)), "HEIF", exif=exif)).shape == (32, 64, 3), "EXIF alone turns none"
    assert not heif.is_heif(saved(frames[0], "AVIF")) and not heif.is_heif(b"\xff\xff\xff\xffftypmif1")


def test_a_broken_heic_is_told_in_the_same_words_each_time():
    for data in (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", saved(Image.new("RGB", (64, 64)), "HEIF")[:-300]):
        said = []
        for _ in range(2):
            with pytest.raises(Damaged) as raised:
                show(bytes(bytearray(data)))
            said.append(raised.value.detail)
        assert said[0] == said[1] and " at 0x" not in said[0]


def test_without_its_decoder_a_heic_is_refused_with_what_to_install(monkeypatch):
    data = saved(Image.new("RGB", (64, 64)), "HEIF")
    monkeypatch.setattr(heif, "_registered", lambda: False)
    with pytest.raises(Damaged, match=r'pip install "stillroom\[heic\]"') as raised:
        show(data)
    assert raised.value.reason == "format"
