"""The store of what came from URLs: whatever kills its writer, what it says is there is there."""

import contextlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.base.errors import UserError
from components.collect.web.store import JOURNAL, Entry, Store, Writer


def filled(folder, count=5):
    with Writer(folder, name="web") as writer:
        for at in range(count):
            writer.put(f"http://a/{at}", bytes([at]) * 50)
        writer.fail("http://a/bad", "http_4xx", "HTTP 404")
    return folder


def test_what_was_put_is_there_again(tmp_path):
    store = Store(filled(tmp_path))
    assert [store.read(store.entries[f"http://a/{at}"]) for at in range(5)] == [bytes([at]) * 50 for at in range(5)]
    assert store.entries["http://a/bad"] == Entry(reason="http_4xx", detail="HTTP 404")


def test_the_same_bytes_are_stored_once(tmp_path):
    with Writer(tmp_path, name="web") as writer:
        for at in range(9):
            writer.put(f"http://a/{at}", b"same")
    assert (tmp_path / "pack-00000.bin").read_bytes() == b"same"
    assert Store(tmp_path).entries["http://a/0"] == Store(tmp_path).entries["http://a/8"]


def test_a_new_pack_is_begun_when_one_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("components.collect.web.store._PACK_BYTES", 120)
    filled(tmp_path)
    with Writer(tmp_path, name="web") as writer:
        writer.put("http://a/more", b"x" * 500)
    store = Store(tmp_path)
    assert len(list(tmp_path.glob("pack-*"))) == 4
    assert all(store.read(entry) is not None for entry in store.entries.values() if entry.sha256)


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 1000), torn=st.integers(0, 260))
def test_a_store_cut_off_anywhere_holds_what_it_says(tmp_path_factory, cut, torn):
    """As after a power cut: a journal that ends anywhere, and bytes that never reached the disk."""
    folder = filled(tmp_path_factory.mktemp("store"))
    journal, pack = folder / JOURNAL, folder / "pack-00000.bin"
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if b"synced" not in line]
    journal.write_bytes(b"".join(lines)[:cut])
    pack.write_bytes(pack.read_bytes()[:torn])
    with Writer(folder, name="web") as writer:
        assert all(writer.read(entry) for entry in writer.entries.values() if entry.sha256)
        writer.put("http://a/new", b"new" * 50)
    store = Store(folder)
    assert all(store.read(entry) for entry in store.entries.values() if entry.sha256)
    assert store.read(store.entries["http://a/new"]) == b"new" * 50


def test_a_failure_that_repeats_and_a_look_that_finds_nothing_write_nothing(tmp_path):
    before = (filled(tmp_path) / JOURNAL).read_bytes()
    with Writer(tmp_path, name="web") as writer:
        writer.fail("http://a/bad", "http_4xx", "HTTP 404")
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_a_journal_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("components.collect.web.store._FEW_LINES", 10)
    filled(tmp_path)
    with Writer(tmp_path, name="web") as writer:
        writer.put("http://a/0", b"\0" * 50, {"etag": "abc"})
    for at in range(60):
        with Writer(tmp_path, name="web") as writer:
            writer.fail("http://a/bad", "http_5xx", f"HTTP {500 + at}")
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) < 60
    assert b'"etag":"abc"' in (tmp_path / JOURNAL).read_bytes()
    assert Store(tmp_path).entries["http://a/bad"].detail == "HTTP 559"
    assert len(Store(tmp_path).entries) == 6


@pytest.mark.parametrize(
    "line",
    ["null", "[]", '"x"', "{}", '{"key":1}', '{"key":"a","x":1}', '{"key":"a","sha256":5}', "{" * 9999, "\xff", "\r"],
)
@pytest.mark.parametrize("at", [1, 3, -1])
def test_a_line_that_makes_no_sense_costs_itself_alone(tmp_path, line, at):
    journal = filled(tmp_path) / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    lines.insert(at, line.encode("latin-1") + b"\n")
    journal.write_bytes(b"".join(lines))
    with Writer(tmp_path, name="web") as writer:
        assert len([entry for entry in writer.entries.values() if entry.sha256]) == 5
        writer.put("http://a/new", b"new")
    assert Store(tmp_path)._bad == 0, "the journal is written anew without it"
    assert {key for key, entry in Store(tmp_path).entries.items() if entry.sha256} >= {"http://a/0", "http://a/new"}


@given(at=st.integers(0, 700), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_two_urls_at_most_and_no_withdrawal(tmp_path_factory, at, bit):
    folder = filled(tmp_path_factory.mktemp("store"))
    with Writer(folder, name="web") as writer:
        gone = writer.entries["http://a/4"].sha256
        writer.erase([gone])
    blob = bytearray((folder / JOURNAL).read_bytes())
    blob[at % len(blob)] ^= 1 << bit
    (folder / JOURNAL).write_bytes(blob)
    with Writer(folder, name="web") as writer:
        there = [writer.entries.get(f"http://a/{n}") for n in range(4)]
        assert sum(entry is not None and writer.read(entry) == bytes([n]) * 50 for n, entry in enumerate(there)) >= 2
        last = writer.entries.get("http://a/4", Entry())
        assert not last.sha256 or writer.read(last) is None
    with Writer(folder, name="web", gone=[gone]) as writer:
        assert writer.entries.get("http://a/4", Entry()).sha256 == "", (
            "what was withdrawn by hand is known elsewhere too"
        )
        writer.put("http://a/4", b"\4" * 50)  # it was fetched again, since its line is lost
    assert Store(folder).entries["http://a/4"].reason == "withdrawn"
    assert b"\4" not in b"".join(pack.read_bytes() for pack in folder.glob("pack-*"))


def test_two_writers_at_once_are_refused_in_one_line(tmp_path):
    with Writer(tmp_path, name="web"):
        with pytest.raises(UserError, match=r"^source web: another process is fetching it now: [^\n]*$"):
            Writer(tmp_path, name="web")
        assert Store(tmp_path).entries == {}, "readers are let in"
    with Writer(tmp_path, name="web"):
        pass


def test_erased_bytes_are_gone_from_the_disk_and_stay_known(tmp_path):
    filled(tmp_path)
    with Writer(tmp_path, name="web") as writer:
        writer.put("http://b/2", b"\2" * 50)  # the same image at another address
        sha256 = writer.entries["http://a/2"].sha256
        assert writer.erase([sha256, "0" * 64]) == 2
    assert b"\2" not in (tmp_path / "pack-00000.bin").read_bytes()
    store = Store(tmp_path)
    assert {store.entries[key].reason for key in ("http://a/2", "http://b/2")} == {"withdrawn"}
    assert store.read(store.entries["http://a/3"]) == b"\3" * 50


def test_what_was_withdrawn_is_kept_under_no_other_address(tmp_path):
    filled(tmp_path)
    gone = [Store(tmp_path).entries["http://a/2"].sha256]
    with Writer(tmp_path, name="web", gone=gone) as writer:
        assert writer.entries["http://a/2"].reason == "withdrawn", "a journal from before"
        writer.put("http://b/other", b"\2" * 50)
        writer.put("http://b/new", b"new")
    store = Store(tmp_path)
    assert (store.entries["http://b/other"].reason, store.entries["http://b/other"].size) == ("withdrawn", 0)
    assert store.read(store.entries["http://b/new"]) == b"new"
    assert b"\2" not in (tmp_path / "pack-00000.bin").read_bytes()


def test_an_erasure_that_is_killed_is_finished_by_the_next_writer(tmp_path, monkeypatch):
    filled(tmp_path)
    writer = Writer(tmp_path, name="web")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt), writer:
        killed.setattr(Writer, "_sync", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        writer.erase([writer.entries["http://a/2"].sha256])
    assert b"\2" in (tmp_path / "pack-00000.bin").read_bytes()
    with contextlib.suppress(OSError):
        os.close(writer._lock)
    with Writer(tmp_path, name="web"):
        assert b"\2" not in (tmp_path / "pack-00000.bin").read_bytes()
    assert Store(tmp_path).entries["http://a/2"].reason == "withdrawn"


def test_the_journal_is_json_that_anybody_can_read(tmp_path):
    lines = [json.loads(line) for line in (filled(tmp_path) / JOURNAL).read_text().splitlines()]
    assert lines[0] == {"format": 1}
    assert lines[2]["key"] == "http://a/1" and lines[2]["offset"] == 50
