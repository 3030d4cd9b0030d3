"""What each fingerprint sees of a picture, and what it does not."""

import numpy as np
import pytest
from data_fixtures import WHITE, encoded, pixels, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.clean import fingerprints
from components.clean.search import hamming
from components.decode.images import decode


def phash(*pictures):
    return fingerprints.hashes(np.stack([fingerprints.thumbnail(picture) for picture in pictures]))


def test_equal_pixels_have_equal_hashes_whatever_the_file():
    one = fingerprints.examine([(png(1), WHITE), (encoded(pixels(1), "BMP"), WHITE)], max_pixels=10**6)
    for name in ("pixels", "phash", "thumb"):
        np.testing.assert_array_equal(one[name][0], one[name][1])
    other = fingerprints.examine([(png(2), WHITE)], max_pixels=10**6)
    assert bytes(other["pixels"][0]) != bytes(one["pixels"][0])
    assert hamming(other["phash"], one["phash"])[0] > 64
    tall = np.zeros((8, 2, 3), np.uint8)
    assert fingerprints.pixel_sha256(tall) != fingerprints.pixel_sha256(tall.reshape(2, 8, 3))


def test_what_cannot_be_decoded_has_a_reason_and_no_size():
    (fact,) = fingerprints.examine([(png(1)[:99], WHITE)], max_pixels=10**6)
    assert fact["reason"] == b"damaged" and fact["detail"] and not fact["width"] and not fact["phash"].any()


@given(st.text(max_size=300))
def test_a_long_detail_is_cut_at_a_whole_character(detail):
    fact = np.zeros((), fingerprints.FACTS)
    fingerprints.refuse(fact, "damaged", detail)
    assert detail.startswith(fact["detail"].item().decode())


@given(st.integers(0, 1000))
def test_the_perceptual_hash_sees_shape_and_not_size_brightness_or_quality(seed):
    array = pixels(seed, 64)
    dark = (array * 0.8).astype(np.uint8)
    small = np.asarray(Image.fromarray(array).resize((40, 40), Image.Resampling.BICUBIC))
    jpeg = decode(encoded(array, "JPEG", quality=90), WHITE, max_pixels=10**6).pixels
    whole, *others = phash(array, dark, small, jpeg)
    assert max(hamming(whole, other) for other in others) <= 32


@pytest.mark.parametrize("orientation", range(8))
def test_the_hash_of_a_turned_picture_follows_from_the_coefficients(orientation):
    thumbs = np.stack([fingerprints.thumbnail(pixels(seed, 48)) for seed in range(4)])
    turned = np.ascontiguousarray(fingerprints.seen(thumbs, orientation))
    np.testing.assert_array_equal(fingerprints.hashes(turned), fingerprints.hashes(thumbs, orientation))
    np.testing.assert_array_equal(fingerprints.all_hashes(thumbs)[orientation], fingerprints.hashes(turned))
    back = [np.array_equal(fingerprints.seen(turned, number), thumbs) for number in range(8)]
    assert sum(back) == 1, "one orientation undoes it"


@pytest.mark.parametrize("orientation", range(8))
def test_an_orientation_does_what_its_name_says(orientation):
    name = fingerprints.ORIENTATIONS[orientation]
    image = Image.fromarray(pixels(1))
    if name.startswith("flip"):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "turn" in name:
        image = image.rotate(-int(name.split()[-1]), expand=True)  # Pillow turns the other way
    np.testing.assert_array_equal(np.asarray(image), fingerprints.seen(pixels(1)[None], orientation)[0])


@pytest.mark.parametrize("side", [32, 48, 50, 99, 300])
def test_a_mirrored_picture_has_the_mirrored_thumbnail(side):
    """Pillow's BOX filter fails this: it gives a cell whole pixels only."""
    one, other = (fingerprints.thumbnail(each).astype(int) for each in (pixels(1, side), pixels(1, side)[:, ::-1]))
    assert np.abs(one - other[:, ::-1]).max() <= 4


def test_a_batch_changes_no_hash():
    thumbs = np.stack([fingerprints.thumbnail(pixels(seed)) for seed in range(50)])
    alone = np.concatenate([fingerprints.hashes(thumbs[at : at + 1]) for at in range(50)])
    np.testing.assert_array_equal(fingerprints.hashes(thumbs), alone)
