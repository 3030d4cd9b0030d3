"""The server of `stillroom data review`: one page, and one request that puts a decision on record; loopback only.

A page of another origin may reach loopback too, by itself or by a name that leads here (DNS rebinding).  So a request
counts only with this server's own Host, the page only with the token in its address, which is printed at the terminal
and nowhere else, and a decision only from this origin with the token in a header, which no other origin can set
without being asked first.  No path leads to a file: an image is its SHA-256, looked up in the data.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from components.base.errors import UserError, environment_error
from components.html import page
from components.review import script
from components.review.turn import Turn
from flows.data import decide
from flows.workspace.paths import State

HOST = "127.0.0.1"
_MOST = 16_384  # bytes of a decision
_PATIENCE = 20.0  # seconds for a request to arrive
_HEADERS = {
    "Content-Security-Policy": f"{page.policy(script.SCRIPT, connect=True)}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Serves what ``render`` makes of a turn, and records decisions; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, state: State, render: Callable[[Turn], str], port: int) -> None:
        self.state, self.render = state, render
        self.token = secrets.token_urlsafe(32)
        self.one = threading.Lock()
        """Held by who records or renders: the checkout's lock waits for other processes only."""
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"port {port}: {error.strerror}: give another --port") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away; a bug keeps its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def hosts(self) -> set[str]:
        """What a browser that was given this address calls it."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """Where the page is, with its token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE
    server_version, sys_version = "stillroom", ""

    def do_GET(self) -> None:
        """The page."""
        path, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        given = asked.get("token", "")
        if not self._host_is_ours() or path != "/" or not self._is_token(given):
            self._answer(HTTPStatus.FORBIDDEN, "this is not the address that `stillroom data review` printed")
            return
        number = asked.get("page", "")
        turn = Turn(list=asked.get("list", ""), token=self.server.token,
                    number=max(1, int(number)) if re.fullmatch("[0-9]{1,9}", number) else 1)  # fmt: skip
        try:
            with self.server.one:
                text = self.server.render(turn)
        except UserError as error:
            self._answer(HTTPStatus.CONFLICT, str(error))
            return
        self._answer(HTTPStatus.OK, text, kind="text/html")

    def do_POST(self) -> None:
        """A decision."""
        origin, kind = self.headers.get("Origin", ""), self.headers.get_content_type()
        ours = {f"http://{host}" for host in self.server.hosts}
        token = self.headers.get("X-Stillroom-Token", "")
        if not self._host_is_ours() or origin not in ours or not self._is_token(token) or self.path != "/decide":
            self._tell(HTTPStatus.FORBIDDEN, error="not from the page of this server: open it anew")
            return
        size = self.headers.get("Content-Length", "")
        if kind != "application/json" or not size.isascii() or not size.isdigit() or len(size) > 9 or int(size) > _MOST:
            self._tell(HTTPStatus.BAD_REQUEST, error=f"wanted a decision as JSON of at most {_MOST:,} bytes")
            return
        try:
            said = json.loads(self.rfile.read(int(size)))
            if not isinstance(said, dict):
                raise ValueError("wanted an object")
        except (ValueError, RecursionError):
            self._tell(HTTPStatus.BAD_REQUEST, error="wanted a decision as a JSON object")
            return
        try:
            with self.server.one:
                self._tell(HTTPStatus.OK, said=decide.one(self.server.state, said))
        except UserError as error:
            self._tell(HTTPStatus.CONFLICT, error=str(error))
        except OSError as error:
            mine = environment_error(error)
            if mine is None:
                raise
            self._tell(HTTPStatus.CONFLICT, error=str(mine))

    def _host_is_ours(self) -> bool:
        return self.headers.get_all("Host", []) in ([host] for host in self.server.hosts)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode())

    def _tell(self, status: HTTPStatus, **said: Any) -> None:
        self._answer(status, json.dumps(said), kind="application/json")

    def _answer(self, status: HTTPStatus, text: str, *, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing: a request line holds the token."""


def serve(state: State, render: Callable[[Turn], str], *, port: int) -> None:
    """Serve the review page until Ctrl-C or SIGTERM; the address is printed first."""
    with Server(state, render, port) as server:
        try:
            print(f"review  {server.address}", flush=True)
            print("Each click is one line of data/decisions.jsonl. Ctrl-C ends it.", flush=True)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("", file=sys.stderr)
