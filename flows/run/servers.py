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
from dataclasses import dataclass
from types import FrameType
from typing import IO

from components.base import files
from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.base.stopping import ignore_signals
from flows.run import access, outage
from flows.workspace import exits, lock
from flows.workspace.paths import State

HOST = "127.0.0.1"
_START_SECONDS = 180.0


@dataclass(frozen=True)
class Ports:
    """Where the two servers of a checkout listen."""

    prefect: int
    mlflow: int
    host: str = HOST


def serve(state: State, ports: Ports) -> None:
    """Run both servers until Ctrl-C or SIGTERM; UserError when a port is taken or a server ends by itself."""
    signal.signal(signal.SIGTERM, _interrupt)
    with lock.held(state.folder / "serve.lock", what="stillroom ui", wait=False, say=exits.note):
        try:
            with running(state, ports) as started:
                print("Ctrl-C ends both.", flush=True)
                wait_while(state, started)
        except KeyboardInterrupt:
            print("", file=sys.stderr)


@contextlib.contextmanager
def running(state: State, ports: Ports) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Both servers, when they answer; their addresses are printed, and in servers.json for other commands.

    PREFECT_API_URL and Prefect's password are set for what this process starts.  What is put into the processes that it
    yields is ended with them, the last first.
    """
    access.bound(ports.host)
    if ports.prefect == ports.mlflow:
        raise UserError(f"--prefect-port, --mlflow-port: both {ports.prefect}: give each a port of its own")
    for name, port in (("Prefect", ports.prefect), ("MLflow", ports.mlflow)):
        _free(name, port)
    opens = {"mlflow": _make_database(state), "prefect": ""}
    reached = HOST if access.local(ports.host) or ports.host == "0.0.0.0" else ports.host  # noqa: S104
    prefect_at, mlflow_at = f"http://{reached}:{ports.prefect}", f"http://{HOST}:{ports.mlflow}"
    pages = {"mlflow": (mlflow_at, "/health"), "prefect": (prefect_at, "/api/health")}
    log = (state.folder / "servers.log").open("ab")
    started = {"mlflow": start(mlflow_command(state, ports.mlflow), log)}
    try:
        started["prefect"] = start(prefect_command(ports.prefect, ports.host), log, **access.server(state, prefect_at))
        for name, (address, health) in pages.items():
            wait_for(address + health, started[name], what=name, log=log.name)
            print(f"{name:>8}  {address}{opens[name]}", flush=True)
        print(f"Prefect's pages ask for a password: that in {state.folder / 'prefect.auth'}", flush=True)
        addresses = {name: {"url": pages[name][0], "pid": process.pid} for name, process in started.items()}
        files.write_text(state.servers, json.dumps(addresses) + "\n")
        os.environ |= access.client(state, prefect_at)
        yield started
    finally:
        ignore_signals()  # a second one would leave the servers behind
        state.servers.unlink(missing_ok=True)
        for process in reversed(started.values()):
            stop(process)
        log.close()


def wait_while(state: State, started: dict[str, subprocess.Popen[bytes]]) -> None:
    """Return never: UserError when one of ``started`` has ended by itself."""
    while all(process.poll() is None for process in started.values()):
        time.sleep(0.5)
    gone = [name for name, process in started.items() if process.poll() is not None]
    raise UserError(f"{' and '.join(gone)} ended unexpectedly: see {state.folder / 'servers.log'}")


@contextlib.contextmanager
def prefect(state: State) -> Iterator[Callable[[], None]]:
    """A Prefect API for the flows of this process: that of `stillroom ui` or `serve` when it answers, else our own.

    The one that Prefect would start gets the terminal's Ctrl-C before the flow can report how it ended, and
    outlives a flow that is killed.  Call what it yields before the first flow: it waits until the API answers, which
    takes as long as Prefect's imports, so that these are best done before.
    """
    url = running_prefect(state)
    if url:
        os.environ |= access.client(state, url)
        try:
            yield lambda: None
        finally:
            outage.part(url)
        return
    port = _any_port()
    url = f"http://{HOST}:{port}"
    with (state.folder / "servers.log").open("ab") as log:
        server = start(prefect_command(port), log, **access.server(state, url), PREFECT_SERVER_UI_ENABLED="0")
    try:
        os.environ |= access.client(state, url)
        health = f"{url}/api/health"
        yield lambda: wait_for(health, server, what="Prefect", log=str(state.folder / "servers.log"))
    finally:
        outage.part(url)
        stop(server)


def running_prefect(state: State) -> str:
    """The address of the Prefect server that `stillroom ui` or `serve` runs in this checkout; "" when none answers."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = json.loads(state.servers.read_text("utf-8"))["prefect"]["url"]
        if answers(f"{url}/api/health"):
            return url
    return ""


def chosen(state: State) -> None:
    """Have PREFECT_API_URL name a server: it may already, else that of this checkout; UserError without either."""
    if os.environ.get("PREFECT_API_URL"):
        return
    url = running_prefect(state)
    if not url:
        raise UserError(
            "no Prefect server: set PREFECT_API_URL (and PREFECT_API_AUTH_STRING), or start `stillroom serve`"
        )
    os.environ |= access.client(state, url)


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def mlflow_command(state: State, port: int) -> list[str]:
    """The command line of an MLflow server for this checkout: one worker, artifacts served from its folder."""
    return [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", state.database, "--artifacts-destination", str(state.artifacts), "--serve-artifacts",
        # Else it takes requests from the pages of any program on loopback, and by any private address.
        "--allowed-hosts", ",".join(f"{name}:{port}" for name in (HOST, "localhost")),
        "--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in (HOST, "localhost")),
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


def prefect_command(port: int, host: str = HOST) -> list[str]:
    """The command line of a Prefect server."""
    return [
        sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port), "--log-level", "ERROR",
    ]  # fmt: skip


def start(command: list[str], log: IO[bytes], **extra: str) -> subprocess.Popen[bytes]:
    """Start a server: in a session of its own, so that Ctrl-C reaches only us, and we end each with all its workers."""
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
