from importlib import metadata

import pytest

from components.base import algorithms
from components.base.algorithms import Algorithm

DECODE = Algorithm("decode", 1, ("numpy", "pillow"))


def test_the_key_holds_the_versions_of_all_that_is_used_at_any_depth():
    middle = Algorithm("thumbnails", 3, ("opencv-python-headless",), uses=(DECODE,))
    assert Algorithm("pairs", 2, uses=(middle,)).parts() == {
        "algorithm decode": "1", "algorithm pairs": "2", "algorithm thumbnails": "3",
        "library numpy": metadata.version("numpy"), "library pillow": metadata.version("pillow"),
        "library opencv-python-headless": metadata.version("opencv-python-headless"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        Algorithm("encode", 1, ("numpy", "pillow")),
        Algorithm("decode", 2, ("numpy", "pillow")),
        Algorithm("decode", 1, ("numpy",)),
        Algorithm("decode", 1, ("numpy", "pillow"), uses=(Algorithm("colours", 1),)),
    ],
)
def test_another_name_version_library_or_use_is_another_key(other):
    assert Algorithm("decode", 1, ("pillow", "numpy")).key() == DECODE.key() != other.key()


def test_another_version_of_a_library_is_another_key(monkeypatch):
    above = Algorithm("thumbnails", 1, uses=(DECODE,))
    before = above.key()
    monkeypatch.setattr(algorithms, "installed", lambda library: "99")
    assert above.key() != before


def test_the_digest_is_of_every_algorithm_in_any_order():
    other = Algorithm("other", 1)
    assert algorithms.digest([DECODE, other]) == algorithms.digest([other, DECODE]) != algorithms.digest([DECODE])


def test_a_library_that_is_not_installed_has_no_version():
    assert algorithms.installed("no-such-distribution") == algorithms.ABSENT


def test_two_algorithms_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two algorithms called 'decode'"):
        Algorithm("pairs", 1, uses=(DECODE, Algorithm("decode", 2))).key()
