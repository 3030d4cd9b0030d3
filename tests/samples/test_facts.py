"""What is known of an image is computed once, and a store that is lost or damaged costs time only."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from components.base import algorithms
from components.base.algorithms import Algorithm
from components.samples import facts

KIND = np.dtype([("width", "<i4"), ("thumb", "u1", (2, 2))])


def names(*numbers: int) -> np.ndarray:
    return facts.keys([facts.key("image", str(number)) for number in numbers])


def records(*numbers: int) -> np.ndarray:
    out = np.zeros(len(numbers), KIND)
    out["width"] = numbers
    out["thumb"] = np.array(numbers, np.uint8)[:, None, None]
    return out


def opened(folder, rule="r") -> facts.Store:
    return facts.Store(folder, "kind", rule, KIND)


def test_what_was_added_is_found_by_the_next_who_opens_it(tmp_path):
    opened(tmp_path).add(names(5, 3), records(5, 3))
    store = opened(tmp_path)
    at = store.find(names(3, 4, 5))
    assert (at >= 0).tolist() == [True, False, True]
    assert store.take(at[[0, 2]])["width"].tolist() == [3, 5]
    assert store.take(at[[2]])["thumb"].tolist() == [[[5, 5], [5, 5]]]


def test_a_key_is_kept_once_and_segments_never_change(tmp_path):
    store = opened(tmp_path)
    store.add(names(1, 2), records(1, 2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.facts")}
    store.add(names(2, 3, 3), records(9, 3, 8))
    assert len(store) == 3
    assert store.take(store.find(names(2, 3)))["width"].tolist() == [2, 3]
    assert all(path.read_bytes() == blob for path, blob in before.items())


def test_what_is_there_is_not_sorted_again_when_more_comes(tmp_path, monkeypatch):
    sorted_so_far = []
    sort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda keys, **how: sorted_so_far.append(len(keys)) or sort(keys, **how))
    store = opened(tmp_path)
    for start in range(0, 200, 10):
        store.add(names(*range(start, start + 10)), records(*range(start, start + 10)))
    assert sum(sorted_so_far) == 200
    assert store.take(store.find(names(*range(200))))["width"].tolist() == list(range(200))


def test_keys_that_end_in_zeros_are_told_apart(tmp_path):
    store = opened(tmp_path)
    ends = [bytes(31) + b"\1", bytes(32), b"\1" + bytes(31), b"\1" + bytes(30) + b"\1"]
    store.add(facts.keys(ends), records(0, 1, 2, 3))
    assert store.take(store.find(facts.keys(ends)))["width"].tolist() == [0, 1, 2, 3]
    assert store.find(facts.keys([b"\1\1" + bytes(30)])).tolist() == [-1]


def test_what_comes_after_a_store_was_opened_is_found_beside_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_MOST_SEGMENTS", 3)
    for round_ in range(4):
        store = opened(tmp_path)
        for first in range(0, 50, 10):
            start = 50 * round_ + first
            store.add(names(*range(start, start + 10)), records(*range(start, start + 10)))
            wanted = names(*range(start + 10))
            assert store.take(store.find(wanted))["width"].tolist() == list(range(start + 10))
            assert (store.find(names(900, 901)) == -1).all()


def test_a_field_is_read_without_the_rest_of_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_MAPPED", 3 * KIND.itemsize)  # a few records at a time
    store = opened(tmp_path)
    for first in (0, 10):
        store.add(names(*range(first, first + 10)), records(*range(first, first + 10)))
    at = store.find(names(3, 17, 0, 9, 12, 5, 6))
    assert store.column(at, "width").tolist() == [3, 17, 0, 9, 12, 5, 6]
    assert store.column(at, "thumb", 1).tolist() == [[n, n] for n in (3, 17, 0, 9, 12, 5, 6)]
    np.testing.assert_array_equal(store.take(at)["thumb"][:, 1], store.column(at, "thumb", 1))


def test_many_small_segments_become_one_and_nothing_is_lost(tmp_path):
    store = opened(tmp_path)
    for number in range(40):
        store.add(names(number), records(number))
    assert len(list(tmp_path.rglob("*.facts"))) < 10
    found = opened(tmp_path)
    assert found.take(found.find(names(*range(40))))["width"].tolist() == list(range(40))


def test_four_times_as_many_facts_take_four_times_the_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_SMALL", 60 * KIND.itemsize)  # what has 60 facts is not merged again
    written = []
    write = facts.Store._write
    monkeypatch.setattr(facts.Store, "_write", lambda store, *both: written.append(len(both[0])) or write(store, *both))
    rows = []
    for adds in (60, 240):
        store, before = opened(tmp_path / str(adds)), sum(written)
        for number in range(adds):
            store.add(names(2 * number, 2 * number + 1), records(1, 2))
        rows.append(sum(written) - before)
        assert len(store) == 2 * adds and (store.find(names(*range(2 * adds))) >= 0).all()
    assert rows[1] < 6 * rows[0]


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_segment_is_dropped_and_the_others_stay(tmp_path, harm):
    store = opened(tmp_path)
    store.add(names(1), records(1))
    first = next(tmp_path.rglob("*.facts"))
    store.add(names(2), records(2))
    blob = bytearray(first.read_bytes())
    blob[-1] ^= 1
    first.write_bytes({"cut": blob[:-2], "flipped": blob, "empty": b"", "foreign": b"x" * 500}[harm])
    assert (opened(tmp_path).find(names(1, 2)) >= 0).tolist() == [False, True]
    assert not first.exists()


def test_what_is_forgotten_is_gone_from_the_disk(tmp_path):
    store = opened(tmp_path)
    store.add(names(1, 2), records(1, 2))
    store.add(names(3), records(3))
    assert store.forget(names(2, 7)) == 1
    assert (opened(tmp_path).find(names(1, 2, 3)) >= 0).tolist() == [True, False, True]
    name = names(2).tobytes()
    assert not any(name in path.read_bytes() for path in tmp_path.rglob("*.facts"))


def test_the_rule_follows_parameters_algorithms_libraries_and_type(monkeypatch):
    one, two = Algorithm("decode", 1, ("numpy",)), Algorithm("decode", 2, ("numpy",))
    same = facts.rule({"side": 32}, algorithms=[one], dtype=KIND)
    assert same == facts.rule({"side": 32}, algorithms=[one], dtype=KIND)
    others = [
        facts.rule({"side": 33}, algorithms=[one], dtype=KIND),
        facts.rule({"side": 32}, algorithms=[two], dtype=KIND),
        facts.rule({"side": 32}, algorithms=[one, Algorithm("scale", 1)], dtype=KIND),
        facts.rule({"side": 32}, algorithms=[one], dtype=np.dtype([("width", "<i8")])),
    ]
    monkeypatch.setattr(algorithms, "installed", lambda library: "99")
    others.append(facts.rule({"side": 32}, algorithms=[one], dtype=KIND))
    assert len({same, *others}) == 6


def test_a_key_is_a_sha256_of_its_parts():
    assert facts.key("a", "b") == hashlib.sha256(b"a|b").digest() != facts.key("ab")


@pytest.mark.parametrize("most", [1, 3, 100])
def test_records_stream_in_the_order_asked_for(tmp_path, most):
    store = opened(tmp_path)
    for first in (0, 40):
        store.add(names(*range(first, first + 40)), records(*range(first, first + 40)))
    for wanted in (range(80), [*range(60, 80), *range(20, 60)], [5, 3, 4, 79, 0], [7], []):
        parts = list(store.stream(store.find(names(*wanted)) if len(wanted) else np.empty(0, np.int64), most))
        assert [width for part in parts for width in part["width"].tolist()] == list(wanted)
        assert all(0 < len(part) <= most for part in parts)
