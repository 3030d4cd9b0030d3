"""Real web servers on loopback whose every byte a test decides."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

Handler = http.server.BaseHTTPRequestHandler


class Site:
    """What a server says at each path, and how often it was asked; other paths are 404."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port, self.scheme = port, scheme
        self.pages: dict[str, Callable[[Handler], None]] = {}
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.connections: set[tuple] = set()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of ``path`` here."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def say(self, path: str, *answers: bytes | tuple | Callable[[Handler], None]) -> str:
        """Answer at ``path`` with ``answers`` in turn, the last one ever after; the URL.

        An answer is a body, (status, headers, body), or a function of the handler.
        """
        left = list(answers)

        def page(handler: Handler) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if callable(answer):
                answer(handler)
            else:
                reply(handler, *(answer if isinstance(answer, tuple) else (200, {}, answer)))

        self.pages[path] = page
        return self.url(path)


def reply(handler: Handler, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    """A whole and honest answer, but for what ``headers`` say."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def site(*, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Site]:
    """A server on a free port of ``host``, for as long as the block lasts."""

    class Here(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            here.asked[path] += 1
            here.headers.append(dict(self.headers))
            here.connections.add(self.client_address)
            page = here.pages.get(path)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                page(self) if page else reply(self, 404, {})

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up, or one that is not trusted

    server = Server((host, 0), Here)
    server.daemon_threads, server.block_on_close = True, False
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    here = Site(server.server_port, "https" if tls else "http")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()


def source(**changes: object) -> SimpleNamespace:
    """Parameters of a list of URLs: on loopback, in a hurry."""
    values = {"name": "web", "url_column": None, "text_column": None, "label_column": None, "group_column": None,
              "seconds": 5.0, "attempts": 3, "private": True, "obey": False}  # fmt: skip
    return SimpleNamespace(**{**values, **changes})
