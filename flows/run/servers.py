"""The two servers that `stillroom ui` runs on loopback, and finding them again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO

from components.base import files
from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.base.stopping import ignore_signals
from flows.run import outage
from flows.workspace.paths import State

HOST = "127.0.0.1"
_START_SECONDS = 180.0


def serve(state: State, *, prefect_port: int, mlflow_port: int) -> None:
    """Run both servers until Ctrl-C or SIGTERM; UserError when a port is taken or a server ends by itself."""
    for name, port in (("Prefect", prefect_port), ("MLflow", mlflow_port)):
        _free(name, port)
    opens = {"mlflow": _make_database(state), "prefect": ""}
    pages = {
        "mlflow": (f"http://{HOST}:{mlflow_port}", "/health", mlflow_command(state, mlflow_port)),
        "prefect": (f"http://{HOST}:{prefect_port}", "/api/health", prefect_command(prefect_port)),
    }
    log = (state.folder / "servers.log").open("ab")
    api = f"http://{HOST}:{prefect_port}/api"  # where the pages in the browser find it
    started = {
        name: _start(command, log, PREFECT_UI_API_URL=api, PREFECT_SERVER_UI_API_URL=api)
        for name, (_, _, command) in pages.items()
    }
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name, (address, health, _) in pages.items():
            wait_for(address + health, started[name], what=name, log=str(state.folder / "servers.log"))
            print(f"{name:>8}  {address}{opens[name]}", flush=True)
        addresses = {name: {"url": pages[name][0], "pid": process.pid} for name, process in started.items()}
        files.write_text(state.servers, json.dumps(addresses) + "\n")
        print("Ctrl-C ends both.", flush=True)
        while all(process.poll() is None for process in started.values()):
            time.sleep(0.5)
        gone = [name for name, process in started.items() if process.poll() is not None]
        raise UserError(f"{' and '.join(gone)} ended unexpectedly: see {state.folder / 'servers.log'}")
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    finally:
        ignore_signals()  # a second one would leave the servers behind
        state.servers.unlink(missing_ok=True)
        for process in started.values():
            stop(process)
        log.close()


@contextlib.contextmanager
def prefect(state: State) -> Iterator[Callable[[], None]]:
    """A Prefect API for the flows of this process: that of `stillroom ui` when it answers, else one that we start.

    The one that Prefect would start gets the terminal's Ctrl-C before the flow can report how it ended, and
    outlives a flow that is killed.  Call what it yields before the first flow: it waits until the API answers, which
    takes as long as Prefect's imports, so that these are best done before.
    """
    url = _running_prefect(state)
    if url:
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        try:
            yield lambda: None
        finally:
            outage.part(url)
        return
    port = _any_port()
    url = f"http://{HOST}:{port}"
    with (state.folder / "servers.log").open("ab") as log:
        server = _start(prefect_command(port), log, PREFECT_UI_ENABLED="0")
    try:
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        health = f"{url}/api/health"
        yield lambda: wait_for(health, server, what="Prefect", log=str(state.folder / "servers.log"))
    finally:
        outage.part(url)
        stop(server)


def _running_prefect(state: State) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = json.loads(state.servers.read_text("utf-8"))["prefect"]["url"]
        if answers(f"{url}/api/health"):
            return url
    return ""


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def mlflow_command(state: State, port: int) -> list[str]:
    """The command line of an MLflow server for this checkout: one worker, artifacts served from its folder."""
    return [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", state.database, "--artifacts-destination", str(state.artifacts), "--serve-artifacts",
    ]  # fmt: skip


def wait_for(url: str, process: subprocess.Popen[bytes], *, what: str, log: str) -> None:
    """Return when ``url`` answers; UserError when ``process`` ends first or takes too long."""
    until = time.monotonic() + _START_SECONDS
    while not answers(url):
        if process.poll() is not None or time.monotonic() > until:
            raise UserError(f"{what} does not start: see {log}")
        time.sleep(0.25)


def answers(url: str) -> bool:
    """Whether ``url``, on loopback, answers with success."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def prefect_command(port: int) -> list[str]:
    """The command line of a Prefect API on loopback."""
    return [
        sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", HOST,
        "--port", str(port), "--log-level", "error", "--lifespan", "on",
    ]  # fmt: skip


def _start(command: list[str], log: IO[bytes], **extra: str) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches only us, and we end each with all its workers.
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **extra},
        start_new_session=True, preexec_fn=die_with_parent,
    )  # fmt: skip


def _free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise UserError(f"port {port} is taken: give {name} another with --{name.lower()}-port") from None


def _make_database(state: State) -> str:
    """Create the MLflow database before the server starts: two processes that create it at once can corrupt it.

    Returns the end of the address that opens on the runs.
    """
    from flows.registry.mlflow import Tracker

    return Tracker(state, state.database).page


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
