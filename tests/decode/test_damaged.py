"""Damaged files are refused and said to be damaged, whatever was done to them; whole but odd ones are not."""

import io
import re
import struct
import time
import zlib

import numpy as np
import pytest
from data_fixtures import WHITE, encoded, pixels, png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from showing import chunk, saved, show, why

from components.decode import png as png_walk
from components.decode.images import Damaged, decode


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "AVIF", "HEIF", "JXL", "PPM"])
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


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"GIF89a",
            b"\xff\xd8\xff",
            b"BM",
            b"II*\0",
            b"RIFF",
            b"P6 99 99 255\n",
            b"P3 99 99 9 ",
            b"\0\0\0\x20ftypavif",
            b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1",
        ]
    ),
)
def test_rubbish_is_a_verdict_and_never_an_error(rubbish, start):
    assert why(start + rubbish) in ("damaged", "not_an_image", "format", "too_large")


def handmade(rows, *, height, interlaced=0):
    header = struct.pack(">IIBBBBB", 4, height, 8, 0, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + bytes(4) for _ in range(rows)))
    return png_walk.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_png_with_too_few_rows_is_damaged_though_every_checksum_fits():
    assert show(handmade(8, height=8)).shape == (8, 4, 3)
    assert why(handmade(4, height=8)) == "damaged"


@pytest.mark.parametrize(
    ("depth", "colour", "width"), [(8, 0, 1), (8, 2, 3), (8, 6, 4), (16, 0, 2), (16, 2, 6), (16, 6, 8)]
)
@pytest.mark.parametrize("notes", [b"", chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")])
def test_a_png_whose_rows_are_filtered_in_no_known_way_is_damaged(depth, colour, width, notes):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    for filters, right in ((b"\0" * 8, True), (b"\0\0\0\0\0\0\x09\0", False)):
        rows = b"".join(bytes([each]) + bytes(range(8 * width)) for each in filters)
        data = png_walk.SIGNATURE + header + notes + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        assert show(data).shape == (8, 8, 3) if right else why(data) == "damaged"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (9, 17)])
def test_interlaced_pngs_are_whole(width, height):
    # Raw size by the definition of Adam7: each pass holds the pixels whose (x, y) fall on its grid.
    wanted = 0
    for left, top, across, down in png_walk._PASSES:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        wanted += rows * (1 + columns) if columns else 0
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    for missing, words in ((0, ""), (1, "pixels")):
        body = chunk(b"IDAT", zlib.compress(bytes(wanted - missing)))
        data = png_walk.SIGNATURE + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
        assert words in png_walk.trouble(data) and bool(words) == bool(png_walk.trouble(data))


def claiming(data, factor):
    """``data``, a JPEG, whose header claims ``factor`` times its rows."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    (height,) = struct.unpack_from(">H", data, at)
    return data[:at] + struct.pack(">H", height * factor) + data[at + 2 :]


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_claims_more_rows_than_it_has_is_damaged(quality, progressive):
    data = encoded(pixels(1, 64), "JPEG", quality=quality, progressive=progressive)
    assert why(claiming(data, 2)) == "damaged"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("left", [0.5, 0.8])
def test_a_jpeg_that_was_cut_and_closed_again_is_damaged(progressive, left):
    data = encoded(pixels(1, 64), "JPEG", progressive=progressive)
    assert why(data[: int(len(data) * left)] + b"\xff\xd9") == "damaged"


def test_a_progressive_jpeg_that_ends_between_two_passes_is_damaged():
    data = encoded(pixels(1, 64), "JPEG", progressive=True)
    passes = [found.start() for found in re.finditer(b"\xff\xda", data)]
    assert len(passes) > 5 and show(data).shape == (64, 64, 3)
    for cut in passes[1:]:
        assert why(data[:cut] + b"\xff\xd9") == "damaged"


def test_a_small_file_that_claims_a_huge_picture_is_damaged_before_it_is_decoded():
    data = encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    bomb = data[:at] + struct.pack(">HH", 13_000, 13_000) + data[at + 4 :] + bytes(2000)
    started = time.process_time()
    assert why(bomb, max_pixels=2**31) == "damaged"
    assert time.process_time() - started < 0.1


def test_more_passes_than_anybody_needs_are_refused():
    data = encoded(pixels(1, 16), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    assert why(data[:first] + data[first:second] * 501 + data[second:]) == "damaged"


def odd_jpegs():
    """JPEGs that are whole and of which a strict decoder warns, or that cameras write."""
    data = encoded(pixels(1, 64), "JPEG", quality=95, subsampling=0)
    scan, version = data.index(b"\xff\xda"), data.index(b"JFIF") + 5
    end = scan + 2 + struct.unpack_from(">H", data, scan + 2)[0]
    half = b"\xff\xe2" + struct.pack(">H", 21) + b"ICC_PROFILE\0\x02\x05" + b"xxxxx"
    notes = b"\xff\xe1" + struct.pack(">H", 16) + b"Exif\0\0" + b"rubbish!"
    return {
        "notes behind its end": data + b"camera notes" * 99,
        "another picture behind its end": data + encoded(pixels(2, 16), "JPEG"),
        "zeros before its end": data[:-2] + bytes(5) + data[-2:],
        "an unknown version": data[:version] + b"\x09" + data[version + 1 :],
        "a scan header of a progressive one": data[: end - 2] + b"\0\0" + data[end:],
        "bytes between its parts": data[:scan] + b"zzz" + data[scan:],
        "half of a profile": data[:2] + half + data[2:],
        "fill bytes": data[:2] + b"\xff\xff" + data[2:],
        "broken notes": data[:2] + notes + data[2:],
    }


@pytest.mark.parametrize("name", odd_jpegs())
def test_an_odd_jpeg_is_whole(name):
    assert np.abs(show(odd_jpegs()[name]).astype(int) - pixels(1, 64)).mean() < 2


def test_the_first_picture_of_a_stereo_camera_counts():
    frames = [Image.fromarray(pixels(n, 32)) for n in (1, 2)]
    stream = io.BytesIO()
    frames[0].save(stream, "MPO", save_all=True, append_images=frames[1:], quality=95)
    picture = decode(stream.getvalue(), WHITE, max_pixels=10**6)
    assert picture.format == "JPEG" and np.abs(picture.pixels.astype(int) - pixels(1)).mean() < 8


def resampled(data, luma):
    """``data``, a grey JPEG as three colours: its header says another sampling of the chroma."""
    at = data.index(b"\xff\xc0") + 11
    return data[:at] + bytes([luma]) + data[at + 1 :]


def test_sampling_that_the_strict_decoder_does_not_know_is_read_and_its_missing_rows_are_seen():
    # One block of everything, so that 3 x 1 blocks of luma are too many: the picture has to be 24 px wide.
    data = resampled(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG", subsampling=0), 0x31)
    assert why(data) == "damaged"


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
    assert why(saved(Image.new("RGB", (4, 4)), "TGA")) in ("format", "not_an_image")
    assert why(saved(Image.new("RGB", (4, 4)), "JPEG2000")) == "format"
    assert why(b"%PDF-1.7 hello") == "not_an_image"
    assert why(b"") == "not_an_image"


def small_files():
    """One small file of each kind that is taken in."""
    grey, alpha = Image.fromarray(pixels(1, 16)[..., 0]), np.dstack([pixels(1, 16), pixels(2, 16)[..., :1]])
    ink = Image.fromarray(pixels(1, 16)).convert("CMYK")
    frames = {"save_all": True, "append_images": [Image.fromarray(pixels(2, 16))]}
    return [
        encoded(pixels(1, 16), "JPEG"), encoded(pixels(1, 16), "JPEG", progressive=True), saved(ink, "JPEG"),
        saved(grey, "JPEG"), encoded(pixels(1, 16)), encoded(alpha), saved(grey, "PNG"), encoded(pixels(1, 16), "GIF"),
        saved(Image.fromarray(pixels(1, 16)), "GIF", **frames), encoded(pixels(1, 16), "BMP"),
        *(encoded(pixels(1, 16), "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")),
        encoded(pixels(1, 16), "WEBP"), encoded(alpha, "WEBP", lossless=True),
        saved(Image.fromarray(pixels(1, 16)), "WEBP", **frames),
    ]  # fmt: skip


SMALL = small_files()


@settings(max_examples=300)
@given(st.sampled_from(range(len(SMALL))), st.data())
def test_whatever_is_done_to_a_file_it_shows_pixels_or_is_refused(number, data):
    blob = bytearray(SMALL[number])
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.one_of(st.none(), st.integers(0, len(blob))))]
    try:
        shown = show(bytes(blob))
        assert shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3
    except Damaged as damaged:
        assert damaged.reason in ("damaged", "not_an_image", "format", "too_large")


@pytest.mark.parametrize("number", range(len(SMALL)))
def test_no_beginning_of_a_file_passes_for_the_file(number):
    whole = show(SMALL[number])
    for left in range(0, len(SMALL[number]), 7):
        assert why(SMALL[number][:left]) in ("damaged", "not_an_image"), left
    assert whole.shape == (16, 16, 3)
