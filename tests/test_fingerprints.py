"""What each fingerprint sees of a picture, and what it does not."""

import numpy as np
from data_fixtures import WHITE, encoded, pixels, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components import fingerprints
from components.images import decode


def test_equal_pixels_have_equal_hashes_whatever_the_file():
    one = fingerprints.examine([(png(1), WHITE), (encoded(pixels(1), "BMP"), WHITE)], max_pixels=10**6)
    assert one[0].pixel_sha256 == one[1].pixel_sha256 and one[0].phash == one[1].phash
    other = fingerprints.examine([(png(2), WHITE)], max_pixels=10**6)[0]
    assert other.pixel_sha256 != one[0].pixel_sha256
    assert (other.phash ^ one[0].phash).bit_count() > 12
    tall = np.zeros((8, 2, 3), np.uint8)
    assert fingerprints.pixel_sha256(tall) != fingerprints.pixel_sha256(tall.reshape(2, 8, 3))


@given(st.integers(0, 1000))
def test_the_perceptual_hash_sees_shape_and_not_size_brightness_or_quality(seed):
    array = pixels(seed, 64)
    whole = fingerprints.perceptual_hash(array)
    dark = (array * 0.8).astype(np.uint8)
    small = np.asarray(Image.fromarray(array).resize((32, 32), Image.Resampling.BOX))
    for other in (dark, small, decode(encoded(array, "JPEG", quality=90), WHITE, max_pixels=10**6).pixels):
        assert (whole ^ fingerprints.perceptual_hash(other)).bit_count() <= 8
