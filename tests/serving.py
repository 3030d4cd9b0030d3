"""`stillroom serve` as a process, and a client of its Prefect server that knows the password."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkouts import command, environment, free_port, python_path

from flows.run import access
from flows.workspace.paths import State

BUSY = 30
"""Seconds for which a busy server is asked again."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The first true value of ``condition``."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.25)
    return found


class Api:
    """A Prefect API at ``url`` (.../api), asked with ``secret``."""

    def __init__(self, url: str, secret: str) -> None:
        self.url, self.secret = url, secret
        self.headers = {
            "Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}",
            "Content-Type": "application/json",
            "Prefect-Csrf-Client": str(uuid.uuid4()),
        }

    def __call__(self, path: str, body: dict | None = None) -> Any:
        """What it answers; it says 503 while its database is busy, and its own client then asks again."""
        if body is not None and "Prefect-Csrf-Token" not in self.headers:
            mine = self.headers["Prefect-Csrf-Client"]
            self.headers["Prefect-Csrf-Token"] = self(f"csrf-token?client={mine}")["token"]
        data = None if body is None else json.dumps(body).encode()
        for left in reversed(range(BUSY)):
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(f"{self.url}/{path}", data, self.headers), timeout=60
                ) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code != 503 or not left:
                    raise
                time.sleep(1)
        raise AssertionError

    def deployment(self, name: str) -> dict:
        """The deployment FLOW/NAME."""
        return self(f"deployments/name/{name}")

    def trigger(self, name: str, **body: Any) -> dict:
        """Start the deployment FLOW/NAME now; the flow run."""
        wanted = {"state": {"type": "SCHEDULED"}, **body}
        return self(f"deployments/{self.deployment(name)['id']}/create_flow_run", wanted)

    def run(self, run: dict) -> dict:
        """The flow run as it is now."""
        return self(f"flow_runs/{run['id']}")

    def ended(self, run: dict, seconds: float = 120.0) -> tuple[str, str]:
        """The type and the name of the state in which a flow run ends."""
        found = wait_for(lambda: (now := self.run(run))["state_type"] in ENDED and now, seconds)
        return found["state_type"], found["state_name"]


@contextlib.contextmanager
def served(folder: Path, *options: str, **variables: str) -> Iterator[tuple[Api, subprocess.Popen[str]]]:
    """`stillroom serve` in ``folder``, from that folder's code, when it has said at which times it runs."""
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    own = {**environment(), "PYTHONPATH": python_path(folder), **variables}
    process = subprocess.Popen(command("serve", *ports, *options), cwd=folder, env=own, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        lines = []
        while not (lines and lines[-1].startswith("runs at")):
            lines.append(process.stdout.readline())
            assert lines[-1], (lines, process.communicate())
        address = re.search(r"http://127\.0\.0\.1:\d+", lines[-1])[0]
        yield Api(f"{address}/api", access.secret(State(folder))), process
    finally:
        process.terminate()
        assert process.wait(60) in (0, 130, 143, -9)
