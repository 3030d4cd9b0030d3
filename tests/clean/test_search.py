"""Every operator finds what a double loop finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.clean import lists, search


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


def test_a_code_is_found_in_the_lists_that_it_is_looked_for_in(monkeypatch):
    """All lists: what a double loop finds; one: less, and nothing else."""
    some, count = codes(400, 32), 6
    middles = some[:count]
    (where,) = lists.nearest([(some, middles)])
    found = {}
    for most, probes in ((10, count), (10_000, count), (10, 1)):
        monkeypatch.setattr(lists, "_MOST", most)
        (looked,) = lists.nearest([(some[:30], middles)], probes=probes)
        made = lists.Lists(some, where[:, 0], count, np.arange(len(some)))
        tasks = list(made.tasks(some[:30], looked, np.arange(30)))
        assert (len(tasks) > 1) == (most == 10)
        found[most, probes] = as_dict(search.gathered(lists.within(tasks, radius=16)))
    assert found[10, count] == found[10_000, count] == by_hand(some[:30], some, 16)
    assert found[10, 1].items() < found[10, count].items()


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_the_place_of_a_code_decides_how_it_is_searched_for(first, cut, end):
    first, cut, end = sorted((first, cut, end))

    def of_each(*goes):
        return {at: level for go in goes for level, low, high in lists.levels(*go) for at in range(low, high)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FLAT", 100)
        whole = of_each((first, end))
        assert list(whole) == list(range(first, end)) and whole == of_each((first, cut), (cut, end))
        assert all((level < 0) == (at < 100) and at < 100 * 4 ** (level + 1) for at, level in whole.items())
