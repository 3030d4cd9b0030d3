"""One request and its answer over a connection to an address that was checked, under one deadline.

The standard library's http.client reads and writes; the sockets are ours.  Of requests, httpx, urllib3 and aiohttp
none lets the caller choose the address and cut a body that drips: their timeouts are for one read each.
Neither proxies nor credentials are taken from the environment.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from components import robots
from components.addresses import Address, ForbiddenError, Resolver, resolve
from components.weburl import Url

PER_HOST = 4  # connections to one host at once
_IDLE = 64  # connections kept open for the next request
_NAME_SECONDS = 300.0  # how long an answer of the name server is believed
_CONNECT_SECONDS = 10.0  # for one address of a name
_PIECE = 64 * 1024  # bytes read at once
_HEADER_BYTES = 2**20  # for headers and what chunks cost, beside twice the body
_HEADERS = {
    "User-Agent": f"{robots.NAME}/0.1 (collects images for training; obeys robots.txt and X-Robots-Tag noai)",
    "Accept": "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff, */*;q=0.1",
    "Accept-Encoding": "identity",
}
_BROKEN = (http.client.HTTPException, ssl.SSLError, ConnectionError, OSError, ValueError, zlib.error)


class FetchError(Exception):
    """Why there is nothing at a URL: one word and one sentence, neither with anything secret in it."""

    def __init__(self, reason: str, detail: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
        self.again = again
        """Whether it may go better in a moment."""
        self.wait = wait
        """Seconds that the server asks everybody to stay away."""


class Deadline:
    """A moment after which an exchange is cut off, wherever it is; waiting for one's turn does not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._until = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, more than 0; FetchError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise FetchError("timeout", f"not done within {self._seconds:g} seconds")
        return left

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Time does not pass inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._until += time.monotonic() - began


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
        self._names: dict[tuple[str, int], tuple[float, Future]] = {}
        self._turns: dict[str, threading.Semaphore] = {}
        self._idle: OrderedDict[_Wire, str] = OrderedDict()

    def get(
        self, url: Url, deadline: Deadline, *, most: int, cut: bool = False,
        check: Callable[[http.client.HTTPMessage], None] = lambda headers: None,
        peek: Callable[[bytes], None] = lambda head: None,
    ) -> Answer:  # fmt: skip
        """Ask for ``url``; FetchError when there is no whole answer of at most ``most`` bytes.

        ``cut`` takes the first ``most`` bytes of a longer one.  ``check`` sees the headers of a 200, and ``peek`` the
        first bytes of its body, before the rest is read; both may raise FetchError.
        """
        with self._lock:
            turn = self._turns.setdefault(url.host, threading.Semaphore(PER_HOST))
        with deadline.standing_still():
            turn.acquire()
        try:
            old = self._take(url.origin)
            if old is not None:
                with contextlib.suppress(_StaleError):
                    return self._exchange(old, url, deadline, most, cut, check, peek)
            return self._exchange(self._connect(url, deadline), url, deadline, most, cut, check, peek)
        finally:
            turn.release()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            for wire in self._idle:
                wire.shut()
            self._idle.clear()

    def _exchange(self, wire: _Wire, url: Url, deadline: Deadline, most, cut, check, peek) -> Answer:
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

    def _take(self, origin: str) -> _Wire | None:
        with self._lock:
            wire = next((wire for wire, whose in reversed(self._idle.items()) if whose == origin), None)
            if wire is not None:
                del self._idle[wire]
            return wire

    def _give(self, wire: _Wire, origin: str) -> None:
        with self._lock:
            self._idle[wire] = origin
            while len(self._idle) > _IDLE:
                self._idle.popitem(last=False)[0].shut()

    def _connect(self, url: Url, deadline: Deadline) -> _Wire:
        for address in self._addresses(url, deadline):
            try:
                sock = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # a machine without IPv6
                    continue
                raise
            try:
                sock.settimeout(min(deadline.left(), _CONNECT_SECONDS))
                sock.connect(address.place)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if url.scheme == "https":
                    sock.settimeout(deadline.left())
                    sock = self._trust().wrap_socket(sock, server_hostname=url.host)
                return _Wire(sock)
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
            asked, future = self._names.get(key, (-_NAME_SECONDS, None))
            if now - asked >= _NAME_SECONDS:
                future = Future()
                self._names[key] = now, future
                # A thread of its own, since nothing cuts a resolver short.
                threading.Thread(target=self._resolve, args=(key, future), daemon=True).start()
        try:
            return future.result(timeout=deadline.left())
        except FutureTimeoutError:
            deadline.left()
            raise FetchError("unresolved", "its name was not resolved in time", again=True) from None

    def _resolve(self, key: tuple[str, int], future: Future) -> None:
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


class _StaleError(Exception):
    """A connection that was kept had been closed by the server meanwhile: no request was answered on it."""


class _Wire:
    """A connected socket as http.client wants it, each of its reads and writes under the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline = Deadline(0)
        self.budget = 0
        """Bytes that may still come: http.client reads without limit after a chunk of length -1, for one."""
        self.used = False

    def ask(self, url: Url) -> http.client.HTTPResponse:
        """Send the request for ``url`` and read the answer up to the end of its headers."""
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.sock = self
        connection.auto_open = 0
        try:
            connection.putrequest("GET", url.target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", url.authority)
            for name, value in _HEADERS.items():
                connection.putheader(name, value)
            if url.authorization:
                connection.putheader("Authorization", url.authorization)
            connection.endheaders()
            return connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError) as error:
            if self.used and not isinstance(error, TimeoutError):
                raise _StaleError from None
            raise

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._sock.settimeout(self.deadline.left())
        self._sock.sendall(data)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """What the socket receives, as a stream."""
        return io.BufferedReader(_Stream(self), _PIECE)

    def receive(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with what has come; how many bytes, 0 at the end."""
        self._sock.settimeout(self.deadline.left())
        count = self._sock.recv_into(buffer)
        self.budget -= count
        if self.budget < 0:
            raise FetchError("too_big", "more than twice what may be taken in, headers and chunks counted")
        return count

    def close(self) -> None:
        """Nothing: http.client closes while an answer is still being read."""

    def shut(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Stream(io.RawIOBase):
    """The bytes that come over a wire."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._wire.receive(buffer)


def _body(response: http.client.HTTPResponse, most: int, cut: bool, peek) -> tuple[bytes, bool]:
    """The body and whether it was read to its end; what it unpacks to is counted, never more than ``most``."""
    too_big = FetchError("too_big", f"more than {most} bytes")
    if response.length is not None and response.length > most and not cut:
        raise too_big
    unpack, finished = _unpacker(response.headers)
    pieces, size, packed = [], 0, 0
    while piece := response.read(_PIECE):
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
