"""An image is found by the first digits of its SHA-256 or by its name, in a list as long as one likes."""

import hashlib
import time

import pytest

from components.base.errors import UserError
from components.samples.catalogue import Known


def known(count):
    digests = [hashlib.sha256(str(at).encode()).hexdigest() for at in range(count)]
    rows = [{"sha256": digest, "source": "s", "source_key": f"{at}.png"} for at, digest in enumerate(digests)]
    return Known(rows, {}), digests


def test_by_digits_and_by_name():
    some, digests = known(50)
    for at, digest in enumerate(digests):
        assert some.named(digest) == some.named(digest[:8].upper()) == some.named(f"s:{at}.png") == {digest}
    one, other = "ab" * 32, "ab" * 31 + "ac"
    two = Known([{"sha256": each, "source": "s", "source_key": "a:b"} for each in (one, other)], {})
    assert two.named("s:a:b") == {one, other}
    with pytest.raises(UserError, match="2 images begin like that"):
        two.named("ab" * 8)
    for word, line in (("ff" * 4, "no image in data/raw has"), ("s:c", "no image of that name"), ("xyz", "wanted a")):
        with pytest.raises(UserError, match=line):
            two.named(word)


def test_twenty_thousand_ids_are_found_among_as_many_images_in_a_moment():
    some, digests = known(20_000)
    began = time.process_time()
    assert {name for digest in digests for name in some.named(digest)} == set(digests)
    assert time.process_time() - began < 5  # 0.1 s; looked for one by one in all rows 60 s
