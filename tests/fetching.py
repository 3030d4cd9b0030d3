"""What the tests of fetching share: one real server on loopback, and a client that asks it."""

import asyncio
import socket
import time

import pytest
from data_fixtures import png

from components.collect.web.client import Client
from components.collect.web.download import Download, Task
from components.collect.web.failure import FetchError
from components.collect.web.fetch import Fetcher
from components.collect.web.url import parse

PNG = png(1, 16)
MOST = 20_000


def fetch(url: str, *, seconds=5.0, obey=False, private=True, **options) -> bytes:
    async def once():
        async with Client(private=private, most=MOST, **options) as client:
            return (await fetcher_of(client, attempts=2, seconds=seconds, obey=obey).fetch(parse(url))).data

    return asyncio.run(once())


def fetcher_of(client: Client, *, attempts=1, seconds=5.0, obey=False) -> Fetcher:
    return Fetcher(client, seconds=seconds, attempts=attempts, most=MOST, obey=obey, pause=lambda failed: 0.0)


def why(url: str, **options) -> str:
    """The reason word of a fetch that fails."""
    with pytest.raises(FetchError) as caught:
        fetch(url, **options)
    return caught.value.reason


def many(urls: list[str], *, attempts=3, obey=False, limits=(), then=lambda key: None, **options):
    """What comes of ``urls``: bytes, or the reason and detail, in the order in which it comes."""

    async def all_of_them():
        came = {}
        async with Client(private=True, most=MOST, **options) as client:
            fetcher = fetcher_of(client, attempts=attempts, obey=obey)
            tasks = [Task(url, parse(url)) for url in urls]
            download = Download(fetcher, tasks, attempts=attempts, **{"pause": lambda failed: 0.01, **dict(limits)})
            async for task, got in download.results():
                came[task.key] = str(got) if isinstance(got, FetchError) else got.data
                then(len(came))
        return came

    return asyncio.run(all_of_them())


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
