"""Lists of URLs: read in four formats, fetched, resumed, tried again; and nothing secret is written down."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fixtures import TOLD, collect_params, png
from websites import reply, site, source

from components.base.errors import UserError
from components.collect.look import look
from components.collect.memory import Memory
from components.collect.stage import collect
from components.collect.web import gather
from components.collect.web.gather import fetch_all
from components.collect.web.store import Store
from components.collect.web.urllist import UrlList, read_list
from components.samples import shards

TABLE = {"link": ["http://a/1", "http://a/2"], "caption": ["ein Hund", None], "kind": ["dog", "cat"], "of": ["g", 7]}
COLUMNS = {"url_column": "link", "text_column": "caption", "label_column": "kind", "group_column": "of"}


def as_csv(table):
    return "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in
                     [list(table), *zip(*table.values(), strict=True)]).encode()  # fmt: skip


def as_jsonl(table):
    return "\n".join(
        json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)
    ).encode()


def as_parquet(table):
    stream = io.BytesIO()
    pq.write_table(
        pa.table({name: [str(cell) if cell else None for cell in cells] for name, cells in table.items()}), stream
    )
    return stream.getvalue()


@pytest.mark.parametrize(("name", "write"), [("a.csv", as_csv), ("a.jsonl", as_jsonl), ("A.Parquet", as_parquet)])
def test_a_table_says_what_is_at_each_url(name, write):
    rows, refusals = read_list(name, write(TABLE), source(**COLUMNS))
    assert [(row.key, row.text, row.label, row.group) for row in rows] == [
        ("http://a/1", "ein Hund", "dog", "g"), ("http://a/2", None, "cat", "7"),
    ]  # fmt: skip
    assert refusals == []


def test_plain_text_has_a_url_a_line():
    rows, refusals = read_list("a.txt", b"# mine\nhttp://a/1\r\n\n  http://a/2  \nhttp://a/1#x\nno url\n", source())
    assert [row.key for row in rows] == ["http://a/1", "http://a/2"]
    assert {each.key: each.reason for each in refusals} == {"http://a/1": "url_twice", "a.txt line 6": "bad_url"}


@pytest.mark.parametrize(
    ("name", "blob", "reasons"),
    [
        ("a.csv", b"url,t\nhttp://a/1,x\nhttp://a/2\nhttp://a/9,y\n", {"a.csv line 3": "bad_row"}),
        ("a.csv", b"url,t\nhttp://a/1,x\nhttp://a/2,\0\nhttp://a/3,\xff\n",
         {"http://a/2": "bad_text", "http://a/3": "bad_text"}),
        ("a.csv", b'url,t\nhttp://a/1,x\nhttp://a/2,"y\nhttp://a/9,z\n', {"a.csv line 3": "bad_row"}),
        ("a.csv", b"url,t\nhttp://a/1,x\nhttp://a/\xff,y\n", {"a.csv line 3": "bad_url"}),
        ("a.jsonl", b'{"url": "http://a/1"}\n[1]\nnope\n{"url": "http://a/2", "t": ["x"]}\n{"t": "y"}\n',
         {"a.jsonl line 2": "bad_row", "a.jsonl line 3": "bad_row", "http://a/2": "bad_text",
          "a.jsonl line 5": "bad_url"}),
        ("a.jsonl", b'{"url": "http://a/1", "t": NaN}', {}),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_and_costs_no_other_one(name, blob, reasons):
    rows, refusals = read_list(name, blob, source(url_column="url", text_column="t"))
    assert {each.key: each.reason for each in refusals} == reasons
    assert [row.key for row in rows] == ["http://a/1"] + ["http://a/9"] * (b"/9" in blob)


@pytest.mark.parametrize(
    ("name", "blob", "columns", "message"),
    [
        ("a.xlsx", b"", {}, "not a list of URLs"),
        ("a.csv", b"", {"url_column": "u"}, "empty"),
        ("a.csv", b"url,b\nhttp://a,1", {"url_column": "uri"}, "no column 'uri'; did you mean 'url'"),
        ("a.csv", b"url,b\nhttp://a", {"url_column": "url"}, "not as many fields"),
        ("a.csv", b"\xff\xfe", {"url_column": "url"}, "not UTF-8"),
        ("a.csv", b"url\nhttp://a/", {}, "url_column is null"),
        ("a.jsonl", b"[1]", {"url_column": "url"}, "wanted an object"),
        ("a.parquet", b"PAR1" + bytes(50), {"url_column": "url"}, "not a Parquet table"),
        ("a.parquet", as_parquet(TABLE), {"url_column": "lnk"}, "no column 'lnk'; did you mean 'link'"),
        ("a.txt", b"http://a", {"url_column": "url"}, "has no columns"),
    ],
)
def test_what_is_no_list_is_told_in_one_line(name, blob, columns, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_list(name, blob, source(**columns))
    assert "\n" not in str(caught.value)


def rows_of(*urls, **columns):
    rows, refusals = read_list("list.txt", "\n".join(urls).encode(), source(**columns))
    assert not refusals
    return rows


def get(rows, store, *, max_bytes=10_000, **changes):
    return fetch_all(source(**changes), rows, store, max_bytes=max_bytes, pause=lambda failed: 0.0)


def test_a_look_fetches_what_is_missing_and_tries_again_what_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "_GONE_MILLISECONDS", 0)
    with site() as here:
        good = [here.say(f"/{at}.png", png(at, 8)) for at in range(5)]
        bad = here.say("/bad.png", (503, {}, b""), (503, {}, b""), (404, {}, b""), png(9, 8))
        rows = rows_of(*good, bad)
        reports = [get(rows, tmp_path, attempts=2) for _ in range(4)]
        assert [(each.kept, each.fetched, each.failed) for each in reports] == [
            (0, 5, 1),
            (5, 0, 1),
            (5, 1, 0),
            (6, 0, 0),
        ]
        assert all(here.asked[f"/{at}.png"] == 1 for at in range(5)), "what came is never asked for again"
        images = UrlList(rows, [], tmp_path, name="web")
        items, refusals = images.listing()
        assert [item.key for item in items] == sorted([*good, bad]) and refusals == []
        assert {item.key: data for item, data in images.read(items)}[bad] == png(9, 8)


def test_every_failure_is_listed_with_its_reason(tmp_path):
    with site() as here:
        rows = rows_of(here.say("/a", (404, {}, b"")), here.say("/b", b"<html>"), here.say("/c", png(1, 8)))
        get(rows, tmp_path)
        items, refusals = UrlList(rows, [], tmp_path, name="web").listing()
        assert [(each.key, each.reason, each.detail) for each in refusals] == [
            (here.url("/a"), "http_4xx", "HTTP 404"),
            (here.url("/b"), "not_an_image", "its bytes are no PNG, JPEG, GIF, WEBP, AVIF, HEIC, BMP, TIFF or netpbm"),
        ]
        assert len(items) == 1


def test_the_journal_says_where_an_image_was_in_the_end_and_what_its_server_said(tmp_path):
    said = {"Content-Type": "image/png", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": '"' + "x" * 300}
    with site() as here:
        end = here.say("/end", (200, said, png(1, 8)))
        same, moved = here.say("/same", png(1, 8)), here.say("/moved", (302, {"Location": f"/end?token={LONG}"}, b""))
        get(rows_of(end, same, moved), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    found = {line["key"]: [line.get(name, "") for name in ("final", "kind", "modified", "etag")]
             for line in lines if "key" in line}  # fmt: skip
    about = ["image/png", said["Last-Modified"], said["ETag"][:200]]
    assert found == {end: ["", *about], same: [""] * 4, moved: [f"{end}?token=***", *about]}


def test_nothing_depends_on_what_came_first(tmp_path):
    with site() as here:
        urls = [here.say(f"/{at}", png(at, 8)) for at in range(6)]
        slow = here.say("/0", lambda handler: time.sleep(0.05) or reply(handler, 200, {}, png(0, 8)))
        found = []
        for number, order in enumerate((urls, urls[::-1], [*urls[1:], slow])):
            rows = rows_of(*order)
            get(rows, tmp_path / str(number))
            images = UrlList(rows, [], tmp_path / str(number), name="web")
            items, _ = images.listing()
            found.append(
                (images.fingerprint(Memory(None)).sha256, [(item.key, data) for item, data in images.read(items)])
            )
        assert found[0] == found[1] == found[2]


def test_what_is_gone_is_asked_for_once_a_week(tmp_path, monkeypatch):
    with site() as here:
        rows = rows_of(here.say("/a", png(1, 8)), here.say("/b", (404, {}, b"")), here.say("/c", (403, {}, b"")))
        for _ in range(3):
            get(rows, tmp_path)
        assert (here.asked["/b"], here.asked["/c"]) == (1, 3)
        monkeypatch.setattr(gather.time, "time", lambda: 8 * 86_400 + 4e9)
        get(rows, tmp_path)
        assert here.asked["/b"] == 2


def test_a_link_that_fails_now_so_and_now_so_is_one_state_of_the_data(tmp_path):
    with site() as here:
        flaky = here.say("/b", *((status, {}, b"") for status in (502, 503, 429, 500)), png(2, 8))
        rows = rows_of(here.say("/a", png(1, 8)), flaky)
        seen = []
        for _ in range(5):
            get(rows, tmp_path, attempts=1)
            seen.append(UrlList(rows, [], tmp_path, name="web").fingerprint(Memory(None)).sha256)
        assert len(set(seen[:4])) == 1 and seen[4] != seen[0]


def test_who_asks_to_come_back_much_later_starves_no_other_url_of_its_host(tmp_path):
    with site() as here:
        later = [here.say(f"/later/{at}", (503, {"Retry-After": "999"}, b"")) for at in range(3)]
        good = [here.say(f"/{at}", png(at, 8)) for at in range(5)]
        rows = rows_of(*later, *good)
        for _ in range(4):
            get(rows, tmp_path, attempts=1)
        there = [item.key for item in UrlList(rows, [], tmp_path, name="web").listing()[0]]
        assert there == sorted(good)


LONG = "0123456789abcdef"


@pytest.mark.parametrize("name", ["hash", "key", "code", "s", "t", "oh"])
def test_a_hidden_value_that_says_which_image_it_is_tells_them_apart(name):
    rows = rows_of(*(f"http://a/x?{name}={LONG}{at}" for at in range(5)))
    assert len({row.key for row in rows}) == 5
    alone = rows_of(f"http://a/x?{name}={LONG}3")
    assert alone[0].key == rows[3].key, "whatever else is in the list"
    assert all(LONG not in row.key and "***" in row.key for row in rows)


def test_a_secret_is_no_part_of_a_name_unless_it_alone_tells_images_apart():
    signed = [rows_of(f"http://a/x?X-Amz-Signature={LONG}{at}")[0].key for at in range(2)]
    assert signed == ["http://a/x?X-Amz-Signature=***"] * 2, "a signature that is renewed"
    rows = rows_of(*(f"http://a/x?token={word}" for word in ("one", "two", "three")))
    assert len({row.key for row in rows}) == 3
    assert all(re.fullmatch(r"http://a/x\?token=\*\*\*[0-9a-f]{6}", row.key) for row in rows)
    _, refusals = read_list("list.txt", b"http://me:one@a/x\nhttp://me:two@a/x\n", source())
    assert [each.reason for each in refusals] == ["url_twice"]


def test_the_digest_changes_with_whatever_collect_would_see(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "_GONE_MILLISECONDS", 0)
    with site() as here:
        url, bad = here.say("/a", png(1, 8)), here.say("/b", (404, {}, b""), (410, {}, b""), png(2, 8))
        rows = rows_of(url, bad)
        seen = [UrlList(rows, [], tmp_path, name="web").fingerprint(Memory(None)).sha256]
        for _ in range(4):
            get(rows, tmp_path)
            seen.append(UrlList(rows, [], tmp_path, name="web").fingerprint(Memory(None)).sha256)
        assert len(set(seen)) == 4 and seen[3] == seen[4]


def test_an_image_that_rots_on_the_disk_is_told_and_fetched_again(tmp_path):
    with site() as here:
        rows = rows_of(here.say("/a", png(1, 8)))
        get(rows, tmp_path)
        pack = tmp_path / "pack-00000.bin"
        pack.write_bytes(bytes([pack.read_bytes()[0] ^ 1]) + pack.read_bytes()[1:])
        images = UrlList(rows, [], tmp_path, name="web")
        with pytest.raises(UserError, match="damaged on the disk"):
            list(images.read(images.listing()[0]))
        get(rows, tmp_path)
        images = UrlList(rows, [], tmp_path, name="web")
        assert [data for _, data in images.read(images.listing()[0])] == [png(1, 8)]
        assert here.asked["/a"] == 2


SCRIPT = """
import signal, sys; sys.path.insert(0, "tests")
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background has it ignored
from pathlib import Path
from websites import source
from components.collect.web.gather import fetch_all
from components.collect.web.urllist import read_list
rows, _ = read_list("list.txt", Path(sys.argv[1]).read_bytes(), source())
fetch_all(source(), rows, Path(sys.argv[2]), max_bytes=10_000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_look_goes_on_where_it_stopped(tmp_path, number):
    killed = threading.Event()

    def answer(at):
        """The last third comes when the look has been killed: a busy machine is late to kill it."""

        def reply_late(handler):
            if at >= 40:
                killed.wait(30)
            reply(handler, 200, {}, png(at, 8))

        return reply_late

    with site() as here:
        urls = [here.say(f"/{at}", answer(at)) for at in range(60)]
        (tmp_path / "list.txt").write_text("\n".join(urls))
        store = tmp_path / "store"
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "list.txt"), str(store)], stderr=subprocess.PIPE
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and len(Store(store).entries) < 10:
            time.sleep(0.005)
        os.kill(child.pid, number)
        killed.set()
        child.communicate(timeout=10)
        there = dict(Store(store).entries)
        assert 10 <= len(there) < 60, "killed in the middle"
        here.asked.clear()
        report = get(rows_of(*urls), store)
        assert report.kept == len(there) and report.fetched == 60 - len(there)
        assert set(here.asked) == {url.removeprefix(here.url("")) for url in urls if url not in there}
        assert all(Store(store).read(entry) is not None for entry in Store(store).entries.values())


SECRET = "hunter2" + "Zq9" * 6


@pytest.mark.parametrize("name", ["a.csv", "b.csv", "a.jsonl"])
def test_a_table_without_a_header_shows_no_secret(name):
    url = f"http://me:{SECRET}@a/?token={SECRET}"
    blob = {"a.csv": f"{url},x\n{url},y", "b.csv": f"{url},{url}\n", "a.jsonl": json.dumps({url: 1})}[name]
    with pytest.raises(UserError) as caught:
        read_list(name, blob.encode(), source(url_column="url"))
    assert SECRET not in str(caught.value)


def test_no_secret_of_a_list_is_written_or_said(tmp_path, caplog, capfd):
    """Every way to end well or badly, with a password and a token in each URL."""
    caplog.set_level(logging.DEBUG)
    with site() as here:
        here.say("/good", png(1, 8))
        here.say("/html", SECRET.encode())
        here.say(
            "/cut", lambda handler: reply(handler, 200, {"Content-Length": "99", "Connection": "close"}, png(1, 8)[:50])
        )
        here.say("/status", (500, {"Retry-After": SECRET}, SECRET.encode()))
        here.say("/moved", (302, {"Location": f"http://me:{SECRET}@127.0.0.1:{here.port}/good?token={SECRET}"}, b""))
        here.say("/nowhere", (302, {"Location": f"ftp://{SECRET}/"}, b""))
        here.say("/garbage", lambda handler: handler.wfile.write(SECRET.encode() * 9 + b"\n"))
        pages = [f"{path}?token={SECRET}&a=1" for path in here.pages]
        urls = [here.url(page).replace("//", f"//me:{SECRET}@") for page in [*pages, f"/404;sid={SECRET}"]]
        broken = [f"http://me:{SECRET}@a b/", f"http://me:{SECRET}@a:x/", f"ftp://{SECRET}@a/", f"http://[{SECRET}/"]
        rows, refusals = read_list("list.txt", "\n".join(urls + broken + urls).encode(), source())
        assert len(rows) == len(urls) and len(refusals) == len(broken) + len(urls)
        get(rows, tmp_path, attempts=2)
        images = UrlList(rows, refusals, tmp_path, name="web")
        items, listed = images.listing()
        assert len(items) == 2 and any(SECRET in str(each) for each in here.headers) is False
        written = [repr(items), repr(listed), repr(rows), caplog.text, *capfd.readouterr()]
        written += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(SECRET in text for text in written)
        assert any("token=***" in item.key for item in items)


def test_look_downloads_and_collect_reads_offline(tmp_path, monkeypatch):
    """One URL fails at first, and is mended; a caption and a group come with the list."""
    where, page, raw, store = (tmp_path / name for name in ("list.csv", "data/source.json", "data/raw", "store"))
    (tmp_path / "withdrawn.jsonl").write_text("")
    with site() as here:
        urls = [here.say(f"/{at}?w=1", png(at, 8)) for at in range(3)]
        here.pages = {path.partition("?")[0]: page for path, page in here.pages.items()}
        bad = here.say("/bad", (503, {"Retry-After": "999"}, b""), png(9, 8))
        table = {"url": [*urls, bad], "text": list("abcd"), "label": list("xxyy"), "of": list("ggho")}
        where.write_bytes(as_csv(table))
        params = collect_params(
            kind="urls", location="list.csv", url_column="url", group_column="of", **TOLD, seconds=5.0, attempts=1,
            private=True, obey=True,
        )  # fmt: skip

        def once() -> dict[str, float]:
            look(params, root=tmp_path, page=page, cache=None, store=store)
            with monkeypatch.context() as offline:
                offline.setattr("socket.socket.connect", lambda *_: pytest.fail("collect went to the network"))
                return collect(params, look=page, withdrawn=tmp_path / "withdrawn.jsonl", raw=raw, scratch=store)

        first = once()
        assert (first["items"], first["refused_http_5xx"]) == (3, 1)
        assert json.loads(page.read_text())["sources"][0]["refused"] == {"http_5xx": 1}
        second = once()
        assert second["items"] == 4 and "refused_http_5xx" not in second
        assert here.asked == {"/0": 1, "/1": 1, "/2": 1, "/bad": 2, "/robots.txt": 2}
        index = shards.read_index(raw).to_pylist()
        assert [(row["source_key"], row["text"], row["label"], row["group_key"]) for row in index] == [
            (urls[0], "a", "x", "g"), (urls[1], "b", "x", "g"), (urls[2], "c", "y", "h"), (bad, "d", "y", "o"),
        ]  # fmt: skip
        before = page.read_bytes()
        once()
        assert page.read_bytes() == before and sum(here.asked.values()) == 7, "nothing new, nothing asked for"
