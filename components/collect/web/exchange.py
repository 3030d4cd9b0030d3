"""One request and its answer over a connection to an address that was checked, under one deadline.

The standard library's http.client reads and writes; the sockets are ours.  Of requests, httpx, urllib3 and aiohttp
none lets the caller choose the address, or limit the time of a whole body: their timeouts are for one read each.
Neither proxies nor credentials are taken from the environment.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from components.collect.web.addresses import Address, ForbiddenError, Resolver, resolve
from components.collect.web.url import Url
from components.collect.web.wire import PIECE, Deadline, FetchError, StaleError, Wire, shared

PER_HOST = 4  # connections to one host at once
_IDLE = 64  # connections kept open for the next request
_NAME_SECONDS = 300.0  # how long an answer of the name server is used
_CONNECT_SECONDS = 10.0  # for one address of a name
_HEADER_BYTES = 2**20  # for headers and what chunks cost, beside twice the body
_BROKEN = (http.client.HTTPException, ssl.SSLError, ConnectionError, OSError, ValueError, zlib.error)


Check = Callable[[http.client.HTTPMessage], None]
Peek = Callable[[bytes], None]


@dataclass(frozen=True)
class Answer:
    """A status, the headers and, of 200 and 203, the body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """Makes requests from many threads at once; keeps connections to be used again."""

    def __init__(
        self, *, private: bool, resolver: Resolver = socket.getaddrinfo, tls: ssl.SSLContext | None = None
    ) -> None:
        self._private, self._resolver = private, resolver
        self._tls = tls
        self._lock = threading.Lock()
        self._names: dict[tuple[str, int], tuple[float, Future[list[Address]]]] = {}
        self._turns: dict[str, threading.Semaphore] = {}
        self._idle: OrderedDict[Wire, str] = OrderedDict()

    def get(
        self, url: Url, deadline: Deadline, *, most: int, cut: bool = False,
        check: Check = lambda headers: None, peek: Peek = lambda head: None,
    ) -> Answer:  # fmt: skip
        """Ask for ``url``; FetchError when there is no whole answer of at most ``most`` bytes.

        ``cut`` takes the first ``most`` bytes of a longer one.  ``check`` sees the headers of a 200, and ``peek`` the
        first bytes of its body, before the rest is read; both may raise FetchError.
        """
        with self._lock:
            turn = self._turns.setdefault(url.host, threading.Semaphore(PER_HOST))
        with deadline.paused():
            turn.acquire()
        try:
            old = self._take(url.origin)
            if old is not None:
                with contextlib.suppress(StaleError):
                    return self._exchange(old, url, deadline, most, cut, check, peek)
            return self._exchange(self._connect(url, deadline), url, deadline, most, cut, check, peek)
        finally:
            turn.release()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for wire in self._idle:
                wire.shut()
            self._idle.clear()

    def _exchange(
        self, wire: Wire, url: Url, deadline: Deadline, most: int, cut: bool, check: Check, peek: Peek
    ) -> Answer:
        keep = False
        wire.deadline, wire.budget = deadline, 2 * most + _HEADER_BYTES
        try:
            response = wire.ask(url)
            body, keep = b"", response.length == 0 and not response.will_close
            if response.status in (200, 203):
                check(response.headers)
                body, whole = _body(response, most, cut, peek)
                keep = whole and not response.will_close
            wire.used = True
            return Answer(response.status, response.headers, body)
        except FetchError:
            raise
        except TimeoutError:
            deadline.left()  # raises
            raise FetchError("broken", "no answer", again=True) from None
        except _BROKEN as error:  # what they say may quote the server, or the URL
            raise FetchError("broken", f"the connection broke ({type(error).__name__})", again=True) from None
        finally:
            self._give(wire, url.origin) if keep else wire.shut()

    def _take(self, origin: str) -> Wire | None:
        with self._lock:
            wire = next((wire for wire, whose in reversed(self._idle.items()) if whose == origin), None)
            if wire is not None:
                del self._idle[wire]
            return wire

    def _give(self, wire: Wire, origin: str) -> None:
        with self._lock:
            self._idle[wire] = origin
            while len(self._idle) > _IDLE:
                self._idle.popitem(last=False)[0].shut()

    def _connect(self, url: Url, deadline: Deadline) -> Wire:
        for address in self._addresses(url, deadline):
            try:
                sock = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # a machine without IPv6
                    continue
                raise
            try:
                sock.settimeout(min(deadline.left(), _CONNECT_SECONDS))
                sock.connect(address.sockaddr)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if url.scheme == "https":
                    sock.settimeout(deadline.left())
                    sock = self._trust().wrap_socket(sock, server_hostname=url.host)
                return Wire(sock)
            except ssl.SSLCertVerificationError as error:
                sock.close()
                raise FetchError("tls", f"certificate refused: {error.verify_message}") from None
            except ssl.SSLError as error:
                sock.close()
                raise FetchError("tls", f"no handshake: {error.reason}", again=True) from None
            except OSError:  # on to the next address
                sock.close()
            except BaseException:
                sock.close()
                raise
        deadline.left()
        raise FetchError("unreachable", "no connection to any of its addresses", again=True)

    def _trust(self) -> ssl.SSLContext:
        with self._lock:  # made when the first https comes: reading the certificates takes a while
            self._tls = self._tls or ssl.create_default_context()
            return self._tls

    def _addresses(self, url: Url, deadline: Deadline) -> list[Address]:
        """The checked addresses of the host: one question to the name server, however many threads ask."""
        key, now = (url.host, url.port), time.monotonic()
        with self._lock:
            known = self._names.get(key)
            if known and now - known[0] < _NAME_SECONDS:
                future = known[1]
            else:
                future = Future()
                self._names[key] = now, future
                # In its own thread: a call of the resolver cannot be broken off.
                threading.Thread(target=self._resolve, args=(key, future), daemon=True).start()
        try:
            return shared(future, deadline.left())
        except FutureTimeoutError:
            deadline.left()
            raise FetchError("unresolved", "its name was not resolved in time", again=True) from None

    def _resolve(self, key: tuple[str, int], future: Future[list[Address]]) -> None:
        try:
            future.set_result(resolve(*key, private=self._private, resolver=self._resolver))
        except ForbiddenError as error:
            future.set_exception(FetchError("private_address", f"{error}; a source with private: true may go there"))
        except Exception as error:
            again = getattr(error, "errno", None) == socket.EAI_AGAIN
            if again:
                with self._lock:
                    self._names.pop(key, None)
            future.set_exception(FetchError("unresolved", "its name has no address", again=again))


def _body(response: http.client.HTTPResponse, most: int, cut: bool, peek: Peek) -> tuple[bytes, bool]:
    """The body and whether it was read to its end; what it unpacks to is counted, never more than ``most``."""
    too_big = FetchError("too_big", f"more than {most} bytes")
    if response.length is not None and response.length > most and not cut:
        raise too_big
    unpack, finished = _unpacker(response.headers)
    pieces: list[bytes] = []
    size = packed = 0
    while piece := response.read(PIECE):
        packed += len(piece)
        piece = unpack(piece, most + 1 - size)
        if piece and not pieces:
            peek(piece)
        pieces.append(piece)
        size += len(piece)
        if max(size, packed) > most:
            if cut:
                return b"".join(pieces)[:most], False
            raise too_big
    if response.length or not finished():
        raise FetchError("broken", "the body ended early", again=True)
    if not pieces:
        peek(b"")
    return b"".join(pieces), True


def _unpacker(headers: http.client.HTTPMessage) -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    """How to undo the encoding, and whether its end was seen; servers pack though they were asked not to."""
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding == "identity":
        return lambda piece, _: piece, lambda: True
    if encoding in ("gzip", "x-gzip", "deflate"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return inflate.decompress, lambda: inflate.eof
    raise FetchError("encoding", "packed in a way that was not asked for")
