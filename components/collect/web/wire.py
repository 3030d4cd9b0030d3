"""A connected socket for http.client with one deadline and one limit of bytes for all reads and writes."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from components.collect.web import robots
from components.collect.web.url import Url

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing has it from Python 3.12 on

Found = TypeVar("Found")

PIECE = 64 * 1024  # bytes read at once
_HEADERS = {
    "User-Agent": f"{robots.NAME}/0.1 (collects images for training)",
    "Accept": "image/png, image/jpeg, image/webp, image/avif, image/gif, image/bmp, image/tiff, */*;q=0.1",
    "Accept-Encoding": "identity",
}


_PASSING = ("http_5xx", "rate_limited", "timeout", "unreachable", "unresolved", "broken", "robots")


class FetchError(Exception):
    """Why there is nothing at a URL: one word and one sentence, neither with anything secret in it."""

    def __init__(self, reason: str, detail: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
        self.again = again
        """Whether another try may succeed."""
        self.wait = wait
        """Seconds that the server asks clients to wait (Retry-After)."""

    @property
    def passing(self) -> bool:
        """Whether it may be gone with the next look, by what it is."""
        return self.reason in _PASSING

    def another(self) -> FetchError:
        """The same error to raise for another URL: each raise of one object makes its traceback longer, for good."""
        return FetchError(self.reason, self.detail, again=self.again, wait=self.wait)


def shared(future: Future[Found], timeout: float | None = None) -> Found:
    """What ``future`` holds for many threads; a FetchError in it is raised anew for each."""
    error = future.exception(timeout)
    if isinstance(error, FetchError):
        raise error.another()
    return future.result()


class Deadline:
    """When an exchange is broken off, whatever it does; waiting for a free connection does not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._until = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, more than 0; FetchError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise FetchError("timeout", f"not done within {self._seconds:g} seconds")
        return left

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the deadline."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._until += time.monotonic() - began


class StaleError(Exception):
    """The server had closed a kept connection before the request: try a new one."""


class Wire:
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
                raise StaleError from None
            raise

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._sock.settimeout(self.deadline.left())
        self._sock.sendall(data)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """What the socket receives, as a stream."""
        return io.BufferedReader(_Stream(self), PIECE)

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

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        return self._wire.receive(memoryview(buffer))
