"""What the tests of fetching share: one real server on loopback, and a client that asks it."""

import socket
import time

import pytest
from data_fixtures import png

from components.collect.web.download import Download, Task
from components.collect.web.exchange import Client
from components.collect.web.fetch import Fetcher
from components.collect.web.url import parse
from components.collect.web.wire import FetchError

PNG = png(1, 16)
MOST = 20_000


def fetch(url: str, *, seconds=5.0, obey=False, private=True, client=None, **options) -> bytes:
    client = client or Client(private=private, **options)
    try:
        fetcher = Fetcher(client, seconds=seconds, attempts=2, most=MOST, obey=obey, pause=lambda failed: 0.0)
        return fetcher.fetch(parse(url))
    finally:
        client.close()


def why(url: str, **options) -> str:
    """The reason word of a fetch that fails."""
    with pytest.raises(FetchError) as caught:
        fetch(url, **options)
    return caught.value.reason


def many(urls: list[str], *, attempts=3, obey=False, **limits) -> dict[str, bytes | str]:
    """What comes of ``urls``: bytes, or the reason and detail."""
    client = Client(private=True)
    fetcher = Fetcher(client, seconds=5.0, attempts=attempts, most=MOST, obey=obey, pause=lambda failed: 0.0)
    tasks = [Task(url, parse(url)) for url in urls]
    found = Download(fetcher, tasks, attempts=attempts, pause=lambda failed: 0.01, **limits)
    came = {task.key: str(got) if isinstance(got, FetchError) else got for task, got in found}
    client.close()
    return came


def raw(text: bytes, *, then=lambda handler: None):
    """An answer whose every byte is given; the connection ends after it."""

    def page(handler):
        handler.close_connection = True
        handler.wfile.write(text)
        then(handler)

    return page


def drip(before: bytes, each: bytes, seconds=30):
    def page(handler):
        raw(before)(handler)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(each)
            time.sleep(0.02)

    return page


def names(**known):
    """A resolver that knows these names only; a list of addresses is handed out one at a time."""

    def resolver(host, port, **_):
        places = known[host.split(".")[0]]
        place = places.pop(0) if len(places) > 1 else places[0]
        family = socket.AF_INET6 if ":" in place else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (place, port))]

    return resolver


def refuse():
    raise ConnectionRefusedError
