"""Fetching one URL and many: what real servers on loopback do, and what comes of it."""

import asyncio
import email.utils
import gzip
import http.client
import socket
import threading
import time
import traceback

import pytest
from fetching import MOST, PNG, drip, fetch, fetcher_of, many, names, raw, refuse, why
from websites import reply, site

from components.collect.web.client import PER_HOST, Client, Clock
from components.collect.web.download import MUTE
from components.collect.web.failure import FetchError
from components.collect.web.fetch import is_image, retry_after
from components.collect.web.url import parse

# what is taken


@pytest.mark.parametrize("kind", ["text/html", "image/jpeg", None])
def test_an_image_is_told_by_its_bytes_and_not_by_its_header(here, kind):
    headers = {"Content-Type": kind} if kind else {}
    assert fetch(here.say("/a", (200, headers, PNG))) == PNG


@pytest.mark.parametrize("body", [b"<html>", b"", b"BMW", b"GIF", b"RIFF....WAVE", b"\x1f\x8b"])
def test_what_is_no_image_is_refused_whatever_its_header_says(here, body):
    assert why(here.say("/a.png", (200, {"Content-Type": "image/png"}, body))) == "not_an_image"


def test_what_is_no_image_is_not_downloaded(here):
    sent = []

    def page(handler):
        raw(b"HTTP/1.1 200 OK\r\n\r\n<html>" + b" " * 80_000)(handler)
        time.sleep(0.05)
        for _ in range(100):
            sent.append(handler.wfile.write(b" " * 100_000))

    assert why(here.say("/a.png", page)) == "not_an_image"
    time.sleep(0.1)
    assert len(sent) < 100


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF", "JXL", "PPM"])
def test_the_formats_that_are_read_are_known(kind):
    from data_fixtures import encoded, pixels

    assert is_image(encoded(pixels(1, 8), kind))


def test_chunks_and_gzip_are_undone(here):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(PNG[at : at + 100]), PNG[at : at + 100]) for at in range(0, len(PNG), 100))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert fetch(here.say("/chunks", raw(head + chunks + b"0\r\n\r\n"))) == PNG
    assert fetch(here.say("/gzip", (200, {"Content-Encoding": "gzip"}, gzip.compress(PNG)))) == PNG
    several = gzip.compress(PNG[:40]) + gzip.compress(PNG[40:]) + bytes(9)  # members, and padding behind them
    assert fetch(here.say("/several", (200, {"Content-Encoding": "gzip"}, several))) == PNG
    assert here.headers[0]["Accept-Encoding"] == "identity"


def test_credentials_reach_their_server_and_no_other(here):
    with site() as other:
        other.say("/b", PNG)
        url = here.say("/a", (302, {"Location": other.url("/b")}, b""))
        assert fetch(url.replace("//", "//me:hunter2@")) == PNG
        assert here.headers[0]["Authorization"].startswith("Basic ")
        assert "Authorization" not in other.headers[0]


def test_proxies_and_credentials_of_the_environment_are_not_used(here, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2")
    for name, value in {"http_proxy": "http://127.0.0.1:1", "NETRC": str(tmp_path / "netrc")}.items():
        monkeypatch.setenv(name, value)
    assert fetch(here.say("/a", PNG)) == PNG
    assert "Authorization" not in here.headers[0]


def test_no_cookie_of_one_answer_goes_with_the_next_request(here):
    urls = [here.say(f"/{at}", (200, {"Set-Cookie": "who=me"}, PNG)) for at in range(9)]
    assert many(urls) == dict.fromkeys(urls, PNG)
    assert not any("Cookie" in headers for headers in here.headers)


# what is cut off


def test_a_body_that_drips_is_cut_at_the_deadline(here):
    url = here.say("/drip", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PNG[:50], b"x"))
    began = time.monotonic()
    assert why(url, seconds=0.2) == "timeout"
    assert time.monotonic() - began < 10  # the page takes 30 s


@pytest.mark.parametrize("before", [b"HTTP/1.1 200 x", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_headers_that_drip_are_cut_too(here, before):
    each = b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in before else b"x"
    assert why(here.say("/drip", drip(before, each, seconds=0.5)), seconds=0.2) == "timeout"


def test_a_server_that_says_nothing_is_left(here):
    assert why(here.say("/", lambda handler: time.sleep(0.4)), seconds=0.2) == "timeout"


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Encoding": "gzip"}, gzip.compress(PNG + bytes(10**7))),
        (200, {}, PNG + bytes(MOST)),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n" + PNG),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + PNG[:100] + b"\r\n",
             b"fff\r\n" + b"x" * 4095 + b"\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n" + PNG, b"x" * 4000),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 100_000),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000),
    ],
    ids=["gzip bomb", "too long", "a length that lies", "endless chunks", "an endless body", "an endless line",
         "endless headers"],
)  # fmt: skip
def test_no_more_than_the_limit_is_taken_in(here, answer):
    assert why(here.say("/big", answer)) == "too_big"


@pytest.mark.parametrize("size", [b"-1", b"x", b"f" * 40])
def test_a_chunk_of_no_size_is_no_answer(here, size):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"
    assert why(here.say("/a", drip(head + PNG, b"x" * 100_000))) == "broken"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_packing_that_was_not_asked_for_is_refused(here, encoding):
    assert why(here.say("/a", (200, {"Content-Encoding": encoding}, PNG))) == "encoding"


# trying again


def test_what_may_go_better_is_tried_again(here):
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PNG) + PNG[:99])
    urls = [
        here.say("/503", (503, {}, b""), PNG),
        here.say("/cut", cut, PNG),
        here.say("/chunk", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + PNG[:99]), PNG),
        here.say("/hangs up", raw(b""), PNG).replace(" ", "%20"),
        here.say("/garbage", raw(b"\0" * 100), PNG),
    ]
    here.pages["/hangs%20up"] = here.pages["/hangs up"]
    assert many(urls) == dict.fromkeys(urls, PNG)
    assert set(here.asked.values()) == {2}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_what_will_not_go_better_is_asked_for_once(here, status):
    url = here.say("/a", (status, {}, b"secret words"))
    assert many([url]) == {url: f"http_4xx: HTTP {status}"}
    assert here.asked["/a"] == 1


def test_nobody_is_asked_more_often_than_was_allowed(here):
    url = here.say("/a", (500, {}, b""))
    assert many([url], attempts=3) == {url: "http_5xx: HTTP 500, 3 times"}
    assert here.asked["/a"] == 3


def test_who_hangs_up_each_time_is_asked_no_more_often_either(here):
    url = here.say("/a", raw(b""))
    assert many([url], attempts=3) == {url: "broken: the connection broke (ServerDisconnectedError), 3 times"}
    assert here.asked["/a"] == 3


def test_retry_after_is_waited_for(here):
    url = here.say("/a", (429, {"Retry-After": "1"}, b""), PNG)
    began = time.monotonic()
    assert many([url]) == {url: PNG}
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("7", 7), ("date", 60), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("-1", None), ("soon", None), ("", None),
     ("9" * 400, 999999999), ("Fri, 99 Dec 99999 00:00:00 GMT", None), ("\u0663", None)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header, wanted):
    headers = http.client.HTTPMessage()
    headers["Retry-After"] = email.utils.formatdate(time.time() + 60, usegmt=True) if header == "date" else header
    assert retry_after(headers) == (wanted if wanted is None else pytest.approx(wanted, abs=2))


def test_who_asks_to_be_left_alone_for_long_is_asked_for_nothing_more_today(here):
    urls = [here.say(f"/{at}", (429, {"Retry-After": "86400"}, b"")) for at in range(40)]
    assert all(came.startswith("rate_limited") for came in many(urls).values())
    assert sum(here.asked.values()) <= PER_HOST * 2


def test_an_unknown_name_and_a_closed_port_have_reasons():
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "no")

    assert why("http://nowhere.example/", resolver=unknown) == "unresolved"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert why(f"http://127.0.0.1:{taken.getsockname()[1]}/") == "unreachable"


def test_a_host_that_does_not_answer_is_soon_left_alone(monkeypatch):
    tries = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: tries.append(place) or refuse())
    urls = [f"http://127.0.0.1:9/{at}" for at in range(200)]
    assert set(many(urls)) == set(urls)
    assert all(came.startswith("unreachable: ") for came in many(urls).values())
    assert len(tries) <= 2 * (MUTE + PER_HOST)


# politeness


def test_robots_txt_is_read_once_and_obeyed(here):
    here.say("/robots.txt", b"User-agent: *\nDisallow: /no")
    urls = [here.say("/no/a", PNG), *(here.say(f"/yes/{at}", PNG) for at in range(9))]
    came = many(urls, obey=True)
    assert came.pop(urls[0]).startswith("robots: ")
    assert set(came.values()) == {PNG} and here.asked["/robots.txt"] == 1 and here.asked["/no/a"] == 0
    assert many(urls[:1], obey=False) == {urls[0]: PNG}


@pytest.mark.parametrize(
    ("answers", "allowed"),
    [
        ([(404, {}, b"")], True), ([(403, {}, b"")], True), ([(500, {}, b"")], False), ([(429, {}, b"")], False),
        ([(503, {}, b""), b"User-agent: *\nAllow: /"], True), ([(302, {"Location": "/elsewhere"}, b"")], False),
        ([(302, {"Location": "/robots.txt"}, b"")], True), ([b"User-agent: *\nDisallow: /\n" + b"#" * 600_000], False),
    ],
)  # fmt: skip
def test_a_robots_txt_that_cannot_be_read_closes_the_site_and_a_missing_one_does_not(here, answers, allowed):
    here.say("/robots.txt", *answers)
    here.say("/elsewhere", b"User-agent: *\nDisallow: /")
    url = here.say("/a", PNG)
    assert (fetch(url, obey=True) == PNG) if allowed else (why(url, obey=True) == "robots")
    assert here.asked["/a"] == allowed


def test_what_closes_a_site_is_told_of_each_url_and_kept_once(here):
    here.say("/robots.txt", (503, {}, b""))
    urls = [parse(here.say(f"/{number}", PNG)) for number in range(50)]

    async def each():
        async with Client(private=True, most=MOST) as client:
            fetcher = fetcher_of(client, obey=True)
            for url in urls:
                with pytest.raises(FetchError, match=r"robots\.txt could not be read") as caught:
                    await fetcher.fetch(url)
                yield len(traceback.extract_tb(caught.value.__traceback__))

    lengths = lengths_of(each())
    assert max(lengths) == lengths[1], "61,000 URLs behind one 503 took 93 MB"


def test_a_name_without_address_is_told_of_each_url_and_kept_once():
    async def each():
        async with Client(private=True, most=MOST, resolver=names()) as client:
            for _ in range(50):
                with pytest.raises(FetchError, match="unresolved") as caught:
                    await client.get(parse("http://nowhere.example/"), Clock(5.0), most=MOST)
                yield len(traceback.extract_tb(caught.value.__traceback__))

    lengths = lengths_of(each())
    assert max(lengths) == lengths[0]


def lengths_of(tracebacks):
    async def all_of_them():
        return [each async for each in tracebacks]

    return asyncio.run(all_of_them())


def test_who_asks_for_time_between_two_requests_gets_it(here):
    here.say("/robots.txt", b"User-agent: *\nCrawl-delay: 0.15")
    moments = []

    def page(handler):
        moments.append(time.monotonic())
        reply(handler, 200, {}, PNG)

    urls = [here.say(f"/{at}", page) for at in range(6)]
    with site() as other:
        quick = [other.say(f"/{at}", PNG).replace("127.0.0.1", "localhost") for at in range(20)]
        came = many(urls + quick, obey=True)
    assert set(came.values()) == {PNG}
    assert moments[-1] - moments[0] > 0.5, "five times 0.15 s, on a machine that is busy"
    assert set(list(came)[:20]) & set(quick) and list(came)[-1] in urls, "nobody else waits"
    assert many(urls, obey=False) == dict.fromkeys(urls, PNG)


def test_who_asks_for_more_time_than_a_look_has_is_left_alone(here):
    here.say("/robots.txt", b"User-agent: *\nCrawl-delay: 3600")
    urls = [here.say(f"/{at}", PNG) for at in range(20)]
    assert all(came.startswith("robots: robots.txt asks for 3600 seconds") for came in many(urls, obey=True).values())
    assert set(here.asked) == {"/robots.txt"}


def test_a_host_that_says_429_rests_as_a_whole_and_longer_each_time(here):
    """Of 40 URLs it answers the first ten requests, then none until it has been left alone for 0.2 s."""
    last, left = [0.0], [10]

    def page(handler):
        now = time.monotonic()
        if now - last[0] > 0.2:
            left[0] = 10
        last[0], left[0] = now, left[0] - 1
        reply(handler, *((200, {}, PNG) if left[0] >= 0 else (429, {}, b"")))

    urls = [here.say(f"/{at}", page) for at in range(40)]
    came = many(urls, attempts=5, limits={"pause": lambda failed: 0.3 * 2**failed})
    assert came == dict.fromkeys(urls, PNG)
    assert sum(here.asked.values()) < 40 + 4 * PER_HOST


def test_a_host_that_says_nothing_but_429_is_left_alone(here):
    urls = [here.say(f"/{at}", (429, {}, b"")) for at in range(200)]
    assert all(came.startswith("rate_limited") for came in many(urls).values())
    assert sum(here.asked.values()) <= 2 * MUTE * PER_HOST


def test_a_server_that_says_noai_is_heard(here):
    url = here.say("/a", (200, {"X-Robots-Tag": "noindex, noai"}, PNG))
    assert why(url, obey=True) == "noai"
    assert fetch(url, obey=False) == PNG
    url = here.say("/b", (200, {"TDM-Reservation": "1"}, PNG))
    assert why(url, obey=True) == "noai"
    assert fetch(here.say("/c", (200, {"TDM-Reservation": "0"}, PNG)), obey=True) == PNG


def test_a_host_sees_few_connections_at_once_and_they_are_used_again(here):
    now, most = [0], [0]

    def page(handler):
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.01)
        now[0] -= 1
        reply(handler, 200, {}, PNG)

    urls = [here.say(f"/{at}", page) for at in range(40)]
    assert many(urls) == dict.fromkeys(urls, PNG)
    assert 1 < most[0] <= PER_HOST
    assert len(here.connections) <= PER_HOST


def test_a_connection_that_the_server_closed_meanwhile_costs_no_attempt(here):
    def once(handler):
        reply(handler, 200, {}, PNG)
        handler.close_connection = True  # without saying so

    urls = [here.say(f"/{at}", once) for at in range(12)]
    assert many(urls, attempts=1) == dict.fromkeys(urls, PNG)
    assert set(here.asked.values()) == {1}


def test_a_slow_host_does_not_hold_up_another(here):
    gate = threading.Event()
    with site() as slow:
        urls = [slow.say(f"/{at}", lambda handler: gate.wait(5) and reply(handler, 200, {}, PNG)) for at in range(8)]
        fast = [here.say(f"/{at}", PNG).replace("127.0.0.1", "127.0.0.1.nip") for at in range(30)]
        came = many(urls + fast, attempts=1, then=lambda count: count == len(fast) and gate.set(),
                    resolver=names(**{"127": ["127.0.0.1"]}))  # fmt: skip
    assert set(came.values()) == {PNG}
    assert set(list(came)[:30]) == set(fast) and len(came) == 38
