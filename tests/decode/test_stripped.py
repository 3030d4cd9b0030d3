"""A stripped file shows the same pixels and says nothing beside them."""

import io
import time
import zlib

import numpy as np
import pytest
from data_fixtures import pixels
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from showing import chunk, saved, show, why

from components.decode.picture import Damaged
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_a_position_is_seen_in_every_format(kind):
    exif = notes(1)
    assert not has_position(saved(Image.fromarray(pixels(1)), kind, exif=exif)), "a latitude alone is none"
    exif.get_ifd(0x8825).update({3: "E", 4: (11.0, 34.0, 30.0)})
    data = saved(Image.fromarray(pixels(1)), kind, exif=exif)
    assert has_position(data) and has_position(exif.tobytes().removeprefix(b"Exif\0\0")), "in a TIFF it is a tag"
    for cut in range(0, len(data), 7):
        has_position(data[:cut])  # hostile or broken: never an error
    assert has_position(b"\xff\xd8<x exif:GPSLatitude='48,8.2N'/>")


def gps():
    exif = notes(1)
    exif.get_ifd(0x8825).update({3: "E", 4: (11.0, 34.0, 30.0)})
    return exif.tobytes()


def hidden():
    """Sound files that say where they were taken in places where few look."""
    picture = Image.fromarray(pixels(1, 64))
    progressive = saved(picture, "JPEG", progressive=True, quality=90)
    second = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    note = b"\xff\xd9" + WORDS  # what looks like the end of the picture
    com = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
    app1 = b"\xff\xe1" + (len(gps()) + 2).to_bytes(2, "big") + gps()
    frames = [Image.fromarray(pixels(n, 64)) for n in (1, 2)]
    webp = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    at = webp.index(b"ANMF")
    length = int.from_bytes(webp[at + 4 : at + 8], "little")
    tiff = gps().removeprefix(b"Exif\0\0")
    extra = b"EXIF" + len(tiff).to_bytes(4, "little") + tiff + b"\0" * (len(tiff) % 2)
    inner = webp[: at + 4] + (length + len(extra)).to_bytes(4, "little") + webp[at + 8 : at + 8 + length] + extra
    webp = inner + webp[at + 8 + length :]
    jfxx = b"\xff\xe0" + (len(WORDS) + 7).to_bytes(2, "big") + b"JFXX\0" + WORDS
    plain = saved(picture, "JPEG", quality=90)
    png = saved(picture, "PNG")
    idat = png.index(b"IDAT") - 4
    end = idat + 12 + int.from_bytes(png[idat : idat + 4], "big")
    return {
        "between the scans": progressive[:second] + com + app1 + progressive[second:],
        "a frame of a webp": b"RIFF" + (len(webp) - 8).to_bytes(4, "little") + webp[8:],
        "behind a bmp": saved(picture, "BMP") + gps(),
        "a thumbnail's mark": plain[:2] + jfxx + plain[2:],
        "a png's name of a profile": png[:33] + chunk(b"iCCP", b"Anna 48.137\0\0" + zlib.compress(
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())) + png[33:],
        "behind a png's pixels": png[:end] + chunk(b"IDAT", WORDS) + png[end:],
        "a png's long part": png[:33] + chunk(b"sRGB", b"\0" + WORDS) + png[33:],
    }  # fmt: skip


@pytest.mark.parametrize("place", hidden())
def test_notes_in_odd_places_go_or_the_file_is_not_taken(place):
    data = hidden()[place]
    try:
        bare = stripped(data)
    except Damaged as damaged:
        assert damaged.reason == "format" and place.endswith(("pixels", "part"))
        return
    assert WORDS not in bare and b"Anna" not in bare and not has_position(bare)
    np.testing.assert_array_equal(show(bare), show(data))


def test_thousands_of_marks_cost_no_more_than_a_few():
    directory = (65535).to_bytes(2, "little") + b"\1\0" * 6 * 65535
    data = b"Exif\0\0II*\0\x08\0\0\0" * 20_000 + directory
    began = time.perf_counter()
    assert not has_position(data)
    assert time.perf_counter() - began < 0.5
