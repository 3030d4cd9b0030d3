"""A web server for benchmarks/fetch.py, on many addresses of loopback: 2,000 images, and what goes wrong on the web.

    python benchmarks/webserver.py images.tar COUNT

Prints its port, serves until its input ends, then prints one JSON object: for each path the requests, the bytes
sent, and the longest time in seconds that an answer took.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

HOSTS = [f"127.0.0.{number}" for number in range(1, 9)]
DRIP_SECONDS = 12.0
ENDLESS_BYTES = 300 * 2**20
BOMB_BYTES = 2**30

Send = Callable[[bytes], Awaitable[None]]
stats: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
images: list[bytes] = []
turns: defaultdict[str, int] = defaultdict(int)


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; underscores in the names of headers are hyphens."""
    fields = {"Content_Length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def drip(send: Send, before: bytes, each: bytes) -> None:
    """Send ``before``, then ``each`` ten times a second."""
    await send(before)
    until = time.monotonic() + DRIP_SECONDS
    while time.monotonic() < until:
        await send(each)
        await asyncio.sleep(0.1)


async def endless(send: Send, before: bytes, each: bytes) -> None:
    """Send ``before``, then ``each`` over and over."""
    await send(before)
    for _ in range(ENDLESS_BYTES // len(each)):
        await send(each)


async def hostile(name: str, send: Send) -> bool:
    """Answer as case ``name`` wants; whether the connection may be kept."""
    image = images[0]
    turns[name] += 1
    first = turns[name] == 1
    whole = {
        "moved-round": answer("302 Found", Location="/case/moved-round"),
        "moved-file": answer("302 Found", Location="file:///etc/hostname"),
        "moved-ftp": answer("302 Found", Location="ftp://127.0.0.1:9/x"),
        "html": answer("200 OK", b"<html>not found</html>" * 99, Content_Type="image/jpeg"),
        "wrong-type": answer("200 OK", image, Content_Type="text/html"),
        "bomb": bomb if name == "bomb" else b"",
        "gone": answer("404 Not Found", b"gone"),
        "noai": answer("200 OK", image, X_Robots_Tag="noai"),
        "forbidden": answer("200 OK", image),
        "busy": answer("429 Too Many", Retry_After="1") if first else answer("200 OK", image),
        "down": answer("503 Down") if first else answer("200 OK", image),
        "empty": answer("200 OK"),
    }
    if name in whole:
        await send(whole[name])
        return True
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    if name == "cut":
        await send(head % len(image) + (image[: len(image) // 2] if first else image))
    elif name == "cut-always":
        await send(head % len(image) + image[: len(image) // 2])
    elif name == "drip":
        await drip(send, head % 10**6 + image, b"x")
    elif name == "drip-header":
        await drip(send, b"HTTP/1.1 200 OK\r\nX: ", b"x")
    elif name == "endless":
        await endless(send, b"HTTP/1.1 200 OK\r\n\r\n" + image, bytes(2**16))
    elif name == "endless-chunks":
        first_chunk = b"%x\r\n%s\r\n" % (len(image), image)
        before = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + first_chunk
        await endless(send, before, b"10000\r\n" + bytes(2**16) + b"\r\n")
    elif name == "length-lie":
        await send(head % 10**15 + image)
    return False


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""

    async def send(data: bytes) -> None:
        writer.write(data)
        counts[1] += len(data)
        await writer.drain()

    try:
        for _ in itertools.count():
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            counts = stats[path]
            counts[0] += 1
            began, keep = time.monotonic(), True
            try:
                _, kind, *rest = path.split("/")
                if kind == "image":
                    await send(answer("200 OK", images[int(rest[0].removesuffix(".jpg"))], Content_Type="image/jpeg"))
                elif kind == "case":
                    keep = await hostile(rest[0], send)
                elif kind == "robots.txt":
                    await send(answer("200 OK", b"User-agent: *\nDisallow: /case/forbidden\n"))
                else:
                    await send(answer("404 Not Found"))
            finally:
                counts[2] = max(counts[2], time.monotonic() - began)
            if not keep:
                break
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    servers = await asyncio.start_server(serve, HOSTS, 0)
    # The first free port is asked for on each address alone; a fixed one is needed for all.
    port = servers.sockets[0].getsockname()[1]
    servers.close()
    server = await asyncio.start_server(serve, HOSTS, port, backlog=512)
    print(port, flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(stats))


if __name__ == "__main__":
    with tarfile.open(sys.argv[1]) as archive:
        members = (member for member in archive if member.name.endswith(".jpg"))
        images += [archive.extractfile(member).read() for member in itertools.islice(members, int(sys.argv[2]))]
    bomb = answer("200 OK", gzip.compress(images[0] + bytes(BOMB_BYTES), 1), Content_Encoding="gzip")
    asyncio.run(main())
