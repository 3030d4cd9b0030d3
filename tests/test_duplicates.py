"""Every pair is found, whichever way round, and the three measures mean what they say."""

import numpy as np
import pytest
from data_fixtures import pixels
from hypothesis import given
from hypothesis import strategies as st

from components import duplicates
from components.duplicates import Rule, find_pairs
from components.fingerprints import perceptual_hash, thumbnail

RULE = Rule(max_distance=8, max_difference=0.06, group_distance=12, group_correlation=0.9)


def fingerprints(pictures):
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    return hashes, np.stack([thumbnail(picture) for picture in pictures])


def test_blocks_find_what_a_double_loop_finds(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    monkeypatch.setattr(duplicates, "_PIECE", 5)
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 4, np.uint64)[random.integers(0, 4, 60)]
    hashes ^= np.uint64(1) << random.integers(0, 64, 60, np.uint64)
    thumbs = np.stack([thumbnail(pixels(int(seed))) for seed in random.integers(0, 3, 60)])
    found = {(pair.a, pair.b): pair for pair in find_pairs(hashes, thumbs, RULE)}
    for a in range(60):
        for b in range(a + 1, 60):
            equal = (thumbs[a] == thumbs[b]).all()
            if equal and int(hashes[a] ^ hashes[b]).bit_count() <= 8:
                assert found[a, b].same
            elif int(hashes[a] ^ hashes[b]).bit_count() > 12:
                assert (a, b) not in found


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=12), st.randoms())
def test_the_order_of_the_images_does_not_matter(hashes, random):
    seeds = [value % 3 for value in hashes]
    order = list(range(len(hashes)))
    random.shuffle(order)
    rule = Rule(max_distance=40, max_difference=0.5, group_distance=40, group_correlation=-1)

    def found(numbers):
        thumbs = np.stack([thumbnail(pixels(seeds[n])) for n in numbers])
        pairs = find_pairs(np.array([hashes[n] for n in numbers], np.uint64), thumbs, rule)
        return {(frozenset((numbers[p.a], numbers[p.b])), p.distance, p.difference, p.same) for p in pairs}

    assert found(order) == found(sorted(order))


def test_other_colours_make_a_group_and_not_a_duplicate():
    array = np.full((64, 64, 3), 255, np.uint8)
    array[8:56, 12:40] = pixels(3, 64)[8:56, 12:40] // 2 + 60
    other = array.copy()
    other[8:56, 12:40, 0] = 255 - other[8:56, 12:40, 0]  # red turned round, shape and background kept
    hashes, thumbs = fingerprints([array, other, array])
    pairs = {(pair.a, pair.b): pair for pair in find_pairs(hashes, thumbs, Rule(8, 0.06, 64, 0.5))}
    assert pairs[0, 2].same and pairs[0, 2].distance == 0 and pairs[0, 2].difference == 0
    assert not pairs[0, 1].same and pairs[0, 1].difference > 0.06


def test_equal_hashes_of_unlike_pictures_are_no_pair():
    _, thumbs = fingerprints([pixels(1), pixels(2)])
    assert find_pairs(np.zeros(2, np.uint64), thumbs, RULE) == []


@pytest.mark.parametrize(("levels", "expected"), [((9, 200), 1), ((9, None), 0)])
def test_flat_pictures_are_alike_among_themselves_only(levels, expected):
    thumbs = np.stack([
        np.full((16, 16, 3), level, np.uint8) if level is not None else thumbnail(pixels(1)) for level in levels
    ])  # fmt: skip
    assert len(find_pairs(np.zeros(2, np.uint64), thumbs, RULE)) == expected


def test_nothing_to_compare_is_no_pair():
    assert find_pairs(np.empty(0, np.uint64), np.empty((0, 16, 16, 3), np.uint8), RULE) == []
