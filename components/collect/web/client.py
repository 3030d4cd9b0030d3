"""One request and its answer, from an address that was checked, under one limit of time and one of bytes.

aiohttp speaks HTTP and keeps the connections.  Ours is what it leaves open: it connects to the addresses that our
resolver gives it and that were checked, and the bytes of an answer are counted before it takes them apart.  Neither
proxies nor credentials are taken from the environment, and no cookies are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDictProxy
from yarl import URL

from components.collect.web import robots
from components.collect.web.addresses import Address, ForbiddenError, Resolver, resolve
from components.collect.web.failure import FetchError
from components.collect.web.url import Url

PER_HOST = 4  # connections to one host at once
_NAME_SECONDS = 300.0  # how long an answer of the name server is used
_IDLE_SECONDS = 1.0  # that a connection is kept for the next request; a list may name more hosts than files may be open
_CONNECT_SECONDS = 10.0  # for one address of a name
_HEADER_BYTES = 2**20  # for headers and what chunks cost, beside twice the body
_LINE_BYTES = 2**16  # of one header
_HEADERS = {
    "User-Agent": f"{robots.NAME}/0.1 (collects images for training)",
    "Accept": "image/png, image/jpeg, image/webp, image/avif, image/heic, image/jxl, image/gif, image/bmp, "
    "image/tiff, */*;q=0.1",
    "Accept-Encoding": "identity",
}

Headers = CIMultiDictProxy[str]
Check = Callable[[Headers], None]
Peek = Callable[[bytes], None]


@dataclass(frozen=True)
class Answer:
    """A status, the headers and, of 200 and 203, the body."""

    status: int
    headers: Headers
    body: bytes


class Clock:
    """The time that fetching one image may take; waiting for a turn does not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Counts the time inside; FetchError when there is none left."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                yield
        except TimeoutError:
            raise FetchError("timeout", f"not done within {self._seconds:g} seconds") from None
        finally:
            self._left -= time.monotonic() - began


class Client:
    """Makes many requests at once, for as long as its block lasts."""

    def __init__(
        self, *, private: bool, most: int, resolver: Resolver = socket.getaddrinfo, tls: ssl.SSLContext | None = None
    ) -> None:
        self._private, self._resolver, self._tls = private, resolver, tls
        self._budget = 2 * most + _HEADER_BYTES
        self._names: dict[tuple[str, int], tuple[float, asyncio.Future[list[Address] | FetchError]]] = {}
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PER_HOST))

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(
            resolver=_Checked(self.addresses),
            use_dns_cache=False,
            limit=0,
            ssl=self._tls or True,
            keepalive_timeout=_IDLE_SECONDS,
        )
        # Private to aiohttp, which has no limit for headers and chunks: the tests of endless ones hold it.
        connector._factory = functools.partial(_Counted, asyncio.get_running_loop(), self._budget)  # type: ignore[assignment]
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS, auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS), max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(
        self, url: Url, clock: Clock, *, most: int, cut: bool = False, last: bool = False,
        check: Check = lambda headers: None, peek: Peek = lambda head: None,
    ) -> Answer:  # fmt: skip
        """Ask for ``url``; FetchError when there is no whole answer of at most ``most`` bytes.

        ``cut`` takes the first ``most`` bytes of a longer one; ``last`` closes the connection after it.  ``check`` sees
        the headers of a 200, and ``peek`` the first bytes of its body, before the rest is read; both may raise
        FetchError.
        """
        async with self._turns[url.host], clock.running():
            with _explained():
                for _ in range(PER_HOST):  # connections that were kept, and that the server has closed meanwhile
                    with contextlib.suppress(_StaleError, aiohttp.ClientConnectionResetError):
                        return await self._get(url, most, cut, last, check, peek)
                return await self._get(url, most, cut, last, check, peek)

    async def _get(self, url: Url, most: int, cut: bool, last: bool, check: Check, peek: Peek) -> Answer:
        # Before aiohttp sees the URL, since it asks no resolver about a host that is an address.
        await self.addresses(url.host, url.port)
        where = URL(url.origin + url.target, encoded=True)
        own = {"Authorization": url.authorization} if url.authorization else {}
        if last:
            own["Connection"] = "close"
        async with self._session.get(where, headers=own, allow_redirects=False) as response:
            body = b""
            if response.status in (200, 203):
                check(response.headers)
                body = await _body(response, most, cut, peek)
            return Answer(response.status, response.headers, body)

    async def addresses(self, host: str, port: int) -> list[Address]:
        """The checked addresses of ``host``: one question to the name server, however many ask; else FetchError."""
        key, now = (host, port), time.monotonic()
        known = self._names.get(key)
        if known is None or now - known[0] > _NAME_SECONDS:
            loop = asyncio.get_running_loop()
            known = self._names[key] = now, loop.create_future()
            # In its own thread, a daemon: a call of the resolver cannot be broken off.
            threading.Thread(target=self._resolve, args=(key, known[1], loop), daemon=True).start()
        found = await asyncio.shield(known[1])
        if isinstance(found, FetchError):
            if found.again:
                self._names.pop(key, None)
            raise found.another()
        return found

    def _resolve(
        self, key: tuple[str, int], future: asyncio.Future[list[Address] | FetchError], loop: asyncio.AbstractEventLoop
    ) -> None:
        found: list[Address] | FetchError
        try:
            found = resolve(*key, private=self._private, resolver=self._resolver)
        except ForbiddenError as error:
            found = FetchError("private_address", f"{error}; a source with private: true may go there")
        except Exception as error:
            again = getattr(error, "errno", None) == socket.EAI_AGAIN
            found = FetchError("unresolved", "its name has no address", again=again)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(future.set_result, found)


class _StaleError(Exception):
    """A connection that was kept broke before any answer: the server had closed it."""


class _Checked(AbstractResolver):
    """Hands aiohttp the addresses that were checked, and no others."""

    def __init__(self, addresses: Callable[[str, int], Awaitable[list[Address]]]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address.sockaddr[0], port=port, family=address.family, proto=0,
                          flags=socket.AI_NUMERICHOST)
            for address in await self._addresses(host, port)
        ]  # fmt: skip

    async def close(self) -> None:
        pass


class _Counted(ResponseHandler):
    """A connection that takes in so many bytes an answer: headers, lines before chunks and 1xx answers as well."""

    def __init__(self, loop: asyncio.AbstractEventLoop, budget: int) -> None:
        super().__init__(loop)
        self._budget = self._left = budget
        self._asked = 0

    def set_response_params(self, **params: Any) -> None:
        """What aiohttp calls before each request."""
        self._left = self._budget
        self._asked += 1
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Count ``data``, then take it in."""
        self._left -= len(data)
        if self._left >= 0:
            super().data_received(data)
        elif self.transport is not None:
            error = FetchError("too_big", "more than twice what may be taken in, headers and chunks counted")
            if self._payload is not None:
                self._payload.set_exception(error)
            self.set_exception(error)
            self.transport.abort()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Pass on ``exc``; aiohttp asks again after some, which only a connection that was kept too long is worth."""
        if isinstance(exc, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
            exc = _broken(exc) if self._asked == 1 else _StaleError()
        super().set_exception(exc, *cause)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Makes FetchErrors of aiohttp's; what those say may quote the server, or the URL."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        message = getattr(error.certificate_error, "verify_message", "not of this host")
        raise FetchError("tls", f"certificate refused: {message}") from None
    except aiohttp.ClientConnectorSSLError as error:
        raise FetchError("tls", f"no handshake: {getattr(error.os_error, 'reason', '')}", again=True) from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise FetchError("unreachable", "no connection to any of its addresses", again=True) from None
    except aiohttp.InvalidURL:
        raise FetchError("unresolved", "its name is no address as they are written") from None
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, zlib.error, ValueError) as error:
        raise _broken(error) from None


def _broken(error: BaseException) -> FetchError:
    if isinstance(error, aiohttp.ClientPayloadError):
        return FetchError("broken", "the body ended early", again=True)
    return FetchError("broken", f"the connection broke ({type(error).__name__})", again=True)


async def _body(response: aiohttp.ClientResponse, most: int, cut: bool, peek: Peek) -> bytes:
    """The body; what it unpacks to is counted, and there is never more than ``most`` of it."""
    too_big = FetchError("too_big", f"more than {most} bytes")
    if (response.content_length or 0) > most and not cut:
        raise too_big
    unpack, finished = _unpacker(response.headers)
    pieces: list[bytes] = []
    size = packed = 0
    async for piece in response.content.iter_any():
        packed += len(piece)
        piece = unpack(piece, most + 1 - size)
        if piece and not pieces:
            peek(piece)
        pieces.append(piece)
        size += len(piece)
        if max(size, packed) > most:
            if cut:
                return b"".join(pieces)[:most]
            raise too_big
    if not finished():
        raise FetchError("broken", "the body ended early", again=True)
    if not pieces:
        peek(b"")
    return b"".join(pieces)


def _unpacker(headers: Headers) -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    """How to undo the encoding, and whether its end was seen; servers pack though they were asked not to."""
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding == "identity":
        return lambda piece, _: piece, lambda: True
    if encoding in ("gzip", "x-gzip", "deflate"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

        def unpack(piece: bytes, most: int) -> bytes:
            nonlocal inflate
            out = b""
            while piece and len(out) < most:
                if inflate.eof:
                    if not piece.startswith(b"\x1f"):  # padding, which others leave alone too
                        break
                    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)  # a gzip may have several members (RFC 1952, 2.2)
                out += inflate.decompress(piece, most - len(out))
                piece = inflate.unused_data
            return out

        return unpack, lambda: inflate.eof
    raise FetchError("encoding", "packed in a way that was not asked for")
