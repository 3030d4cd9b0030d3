"""A stripped file shows the same pixels and says nothing beside them."""

import io

import numpy as np
import pytest
from data_fixtures import pixels
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from showing import chunk, saved, show, why

from components.decode.position import has_position
from components.decode.stripped import stripped

WORDS = b"Anna, 48.137 N 11.575 E"


def notes(orientation):
    """EXIF with a position, a name and an orientation."""
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, WORDS.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 13.0)})
    return exif


def files(orientation):
    image = Image.fromarray(pixels(1)[:, :20])
    text = PngInfo()
    text.add_text("Comment", WORDS.decode(), zip=False)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b"<x:xmpmeta>" + WORDS + b"</x:xmpmeta>"
    exif = notes(orientation)
    second = [Image.fromarray(pixels(2)[:, :20])]
    stream = io.BytesIO()
    image.save(stream, "MPO", save_all=True, append_images=second, exif=exif, quality=90)
    return {
        "jpeg": saved(image, "JPEG", exif=exif, comment=WORDS, icc_profile=profile, xmp=xmp) + WORDS,
        "progressive": saved(image, "JPEG", exif=exif, progressive=True),
        "mpo": stream.getvalue(),
        "cmyk": saved(image.convert("CMYK"), "JPEG", comment=WORDS),
        "png": saved(image, "PNG", exif=exif, pnginfo=text, icc_profile=profile),
        "webp": saved(image, "WEBP", lossless=True, exif=exif, xmp=xmp, icc_profile=profile),
        "gif": saved(image, "GIF", comment=WORDS, save_all=True, append_images=second),
        "bmp": saved(image, "BMP"),
    }


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", files(1))
def test_a_stripped_file_shows_the_same_and_says_nothing(kind, orientation):
    data = files(orientation)[kind]
    bare = stripped(data)
    np.testing.assert_array_equal(show(bare), show(data))
    assert WORDS not in bare and b"xmpmeta" not in bare
    with Image.open(io.BytesIO(bare)) as image:
        assert not image.getexif().get_ifd(0x8825) and set(image.getexif()) <= {0x0112}
    assert stripped(bare) == bare
    assert (WORDS in data) == (kind != "bmp"), "there was something to take out"


def test_the_later_pictures_of_an_apng_stay():
    frames = [Image.fromarray(pixels(n, 8)) for n in (1, 2)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(stripped(data[:33] + chunk(b"tEXt", b"c\0" + WORDS) + data[33:]))) as image:
        assert image.n_frames == 2


def test_what_cannot_be_stripped_is_said():
    tiff = saved(Image.fromarray(pixels(1)), "TIFF")
    with pytest.raises(Exception, match="TIFF"):
        stripped(tiff)
    assert why(b"") == "not_an_image"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", files(1))
def test_no_stripped_file_has_a_position(kind, orientation):
    data = files(orientation)[kind]
    with_exif = kind not in ("cmyk", "gif", "bmp", "progressive")
    exif = notes(orientation)
    exif.get_ifd(0x8825).update({3: "E", 4: (11.0, 34.0, 30.0)})
    if with_exif and kind != "mpo":
        form = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind]
        data = saved(Image.fromarray(pixels(1)), form, exif=exif)
        assert has_position(data)
    assert not has_position(stripped(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_position_is_seen_in_every_format(kind):
    exif = notes(1)
    assert not has_position(saved(Image.fromarray(pixels(1)), kind, exif=exif)), "a latitude alone is none"
    exif.get_ifd(0x8825).update({3: "E", 4: (11.0, 34.0, 30.0)})
    data = saved(Image.fromarray(pixels(1)), kind, exif=exif)
    assert has_position(data) and has_position(exif.tobytes().removeprefix(b"Exif\0\0")), "in a TIFF it is a tag"
    for cut in range(0, len(data), 7):
        has_position(data[:cut])  # hostile or broken: never an error
    assert has_position(b"\xff\xd8<x exif:GPSLatitude='48,8.2N'/>")
