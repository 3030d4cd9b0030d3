"""A Chromium, driven over its own DevTools protocol through a pair of pipes: no port, no Python package.

``with Browser() as browser: shown = browser.open(path, width=400, dark=True)`` gives what a reader would see.
``python tests/browser.py`` installs a browser where none is found and that is possible: root, on a system with apt.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
)  # fmt: skip
TIMEOUT = 60.0  # seconds for any one answer
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PROGRAM = "STILLROOM_BROWSER"
"""Environment variable that names the browser to take."""
REQUIRE = "STILLROOM_REQUIRE_BROWSER"
"""Environment variable that makes a missing browser an error: CI sets it to 1."""
HOW = f"apt-get install chromium, or {PROGRAM}=/path/to/a/chromium"
MISSING = "no Chromium-based browser was found"


@functools.cache
def find() -> str | None:
    """The browser that :data:`PROGRAM` names, else the first of :data:`NAMES` that starts, else None."""
    if named := os.environ.get(PROGRAM):
        if shutil.which(named):
            return named
        pytest.fail(f"{PROGRAM} names {named}, which is no program here: {HOW}", pytrace=False)
    return next((name for name in map(shutil.which, NAMES) if name and _starts(name)), None)


def required(variable: str) -> bool:
    """Whether the environment's ``variable`` asks for something; empty, 0 and false do not."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false")


def _starts(program: str) -> bool:
    # Ubuntu's chromium-browser is a script that asks for a snap, and fails where there is none.
    try:
        asked = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def install() -> None:
    """Where there is no browser, install Debian's if this is root and has apt; say in one line what was done."""
    if os.environ.get(PROGRAM) or find():
        return  # what is named is taken, or each test that needs it says that it is not there
    if os.geteuid() or not shutil.which("apt-get"):
        return  # pytest's last line says how to get one
    print(f"{MISSING}: installing chromium by apt, to open the reports in it", flush=True)
    own = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        done = subprocess.run(["apt-get", "-qq", *words], env=own, stdin=subprocess.DEVNULL, capture_output=True)
    find.cache_clear()
    if not find():
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        print(f"chromium could not be installed: {last}", flush=True)


@dataclass
class Shown:
    """One page as it was rendered."""

    text: str
    """What a reader can see or fold open, in reading order."""
    console: list[str]
    """Every console message, exception, refusal of the content policy and failed load."""
    requests: list[str]
    """Every address asked for, but for the page itself and data: addresses."""
    overflow: int
    """Pixels by which the page is wider than its window."""
    screenshot: bytes
    """PNG of the whole page."""
    values: dict[str, Any] = field(default_factory=dict)
    """The results of the expressions that the caller asked for."""


class Browser:
    """A browser of its own, with an empty profile; it ends with the ``with`` block."""

    def __enter__(self) -> Browser:
        program = find()
        if program is None and required(REQUIRE):
            pytest.fail(f"{MISSING}, and {REQUIRE} is set: {HOW}", pytrace=False)
        if program is None:
            pytest.skip(MISSING)
        self._program = program
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        child_reads, self._to = os.pipe()
        self._from, child_writes = os.pipe()
        # Chromium wants its pipes at 3 and 4, so they first move out of each other's way.
        shell = f'exec 8<&{child_reads} 9>&{child_writes}; exec 3<&8 4>&9 8<&- 9>&-; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", program, *FLAGS, f"--user-data-dir={self._profile.name}"],
            pass_fds=(child_reads, child_writes), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(child_reads)
        os.close(child_writes)
        self._buffer, self._number, self._events = b"", 0, []
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._process.poll() is None:
                self._send("Browser.close", {}, None)
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def open(
        self, path: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False, evaluate: str = "",
        unfold: bool = False,
    ) -> Shown:  # fmt: skip
        """Render the file at ``path``, or the address that it is; ``evaluate`` is a JavaScript expression, or a promise
        of one, for ``values["result"]``.
        """
        self._events.clear()
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {}, session)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", metrics, session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [scheme]}, session)
        url = path if isinstance(path, str) else path.resolve().as_uri()
        self._call("Page.navigate", {"url": url}, session)
        self._until("Page.loadEventFired", session)
        if unfold:
            self._script("document.querySelectorAll('details').forEach(d => d.open = true)", session)
        root = "document.documentElement"
        overflow = self._script(f"{root}.scrollWidth - {root}.clientWidth", session)
        # Before anything is folded open for its text: what the page asked for by itself is what counts.
        values = {"result": self._script(evaluate, session)} if evaluate else {}
        # What lies out of sight is not laid out (content-visibility); picture and text are of the whole page.
        self._script("document.querySelectorAll('main *').forEach(e => e.style.contentVisibility = 'visible')", session)
        picture = self._call("Page.captureScreenshot", {"captureBeyondViewport": True}, session)["data"]
        self._script("document.querySelectorAll('details').forEach(d => d.open = true)", session)
        text = self._script("document.body.innerText", session)
        shown = Shown(text, *self._heard(url, session), overflow, base64.b64decode(picture), values)
        self._call("Target.closeTarget", {"targetId": target})
        return shown

    def _heard(self, url: str, session: str) -> tuple[list[str], list[str]]:
        console, requests = [], []
        for event in self._events:
            if event.get("sessionId") != session:
                continue
            method, params = event["method"], event["params"]
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                console.append(json.dumps(params))
            elif method in ("Page.javascriptDialogOpening", "Network.loadingFailed"):
                console.append(f"{method} {json.dumps(params)}")
            elif method == "Network.requestWillBeSent":
                asked = params["request"]["url"]
                if asked != url and not asked.startswith("data:"):
                    requests.append(asked)
        return console, requests

    def _script(self, expression: str, session: str) -> Any:
        answer = self._call(
            "Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True}, session
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _call(self, method: str, params: dict, session: str | None = None) -> dict:
        number = self._send(method, params, session)
        while True:
            message = self._receive(method)
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"chromium: {method}: {message['error']}")
                return message["result"]
            if "method" in message:
                self._events.append(message)

    def _until(self, method: str, session: str) -> None:
        def seen(event: dict) -> bool:
            return event["method"] == method and event.get("sessionId") == session

        while not any(seen(event) for event in self._events):
            message = self._receive(method)
            if "method" in message:
                self._events.append(message)

    def _send(self, method: str, params: dict, session: str | None) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        try:
            os.write(self._to, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            self._ended(method)
        return self._number

    def _ended(self, waiting_for: str) -> NoReturn:
        code = self._process.wait(20)
        pytest.fail(f"{self._program} ended with exit code {code} before {waiting_for}: {HOW}", pytrace=False)

    def _receive(self, waiting_for: str) -> dict:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._from, 1 << 20) if ready else b""
            if not piece:
                if ready:
                    self._ended(waiting_for)
                raise AssertionError(f"chromium said nothing for a minute while waiting for {waiting_for}")
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


if __name__ == "__main__":
    sys.exit(install())
