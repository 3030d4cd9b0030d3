"""Every operator finds what a double loop finds."""

import numpy as np
import pytest

from components.clean import search


def codes(count, width, *, spread=4, seed=0):
    """Codes around a few centres, so that there are pairs at every distance."""
    random = np.random.default_rng(seed)
    found = random.integers(0, 256, (5, width), np.uint8)[random.integers(0, 5, count)]
    for _ in range(spread):
        rows = np.arange(count)
        found[rows, random.integers(0, width, count)] ^= np.uint8(1) << random.integers(0, 8, count).astype(np.uint8)
    found[:4] = found[-4:]
    return found


def by_hand(queries, others, radius):
    distance = np.bitwise_count(queries[:, None] ^ others[None]).sum(axis=2)
    return {(int(a), int(b)): int(distance[b, a]) for b, a in zip(*np.nonzero(distance <= radius), strict=True)}


def as_dict(matches):
    found = dict(zip(zip(matches.a.tolist(), matches.b.tolist(), strict=True), matches.distance.tolist(), strict=True))
    assert len(found) == len(matches), "a pair is found once"
    return found


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("radius", [0, 7, 40])
def test_within_finds_all_pairs_of_queries_and_codes(width, radius, monkeypatch):
    monkeypatch.setattr(search, "_BLOCK", 7)
    some, queries = codes(90, width), codes(40, width, seed=1)
    assert as_dict(search.within(queries, some, radius)) == by_hand(queries, some, radius)
    assert len(search.within(queries[:0], some, radius)) == len(search.within(queries, some[:0], radius)) == 0


def test_lists_find_what_lies_in_the_lists_that_they_look_into():
    some = codes(400, 32)
    lists = search.Lists(some[:200], lists=5, probes=5)
    lists.add(some[:150])
    lists.add(some[150:])
    assert as_dict(lists.within(some[:30], 16)) == by_hand(some[:30], some, 16)
