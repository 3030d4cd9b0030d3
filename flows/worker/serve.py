"""`stillroom worker`: a worker of Prefect's that ends in order when its machine is taken away.

Prefect's own worker kills its flow runs when it gets SIGTERM.  Here they get it first, and time: the training saves a
checkpoint, which goes to the remote, and the task is free for another worker when this one is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.base.stopping import Stopped, ignore_signals, stop
from flows.dvc import apart
from flows.worker import order
from flows.worker.flow import ROOT
from flows.workspace import exits
from flows.workspace.paths import State

PATIENCE = 25.0
"""Seconds that a flow run has to save what it can; a spot machine has 30 or more until it is gone."""


def serve(state: State, pool: str) -> None:
    """Take tasks of work pool ``pool``, one at a time, until Ctrl-C or SIGTERM; UserError when the worker ends."""
    if not os.environ.get("PREFECT_API_URL"):
        raise UserError("no Prefect server: set PREFECT_API_URL (and PREFECT_API_AUTH_STRING) to the controller's")
    order.remote(state.root)
    apart.shelf(state.root).read("hello")  # what cannot be reached is told now
    own = {ROOT: str(state.root), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
           "PYTHONPATH": os.pathsep.join(filter(None, (_source(), os.environ.get("PYTHONPATH"))))}  # fmt: skip
    line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", "1"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    process = subprocess.Popen(line, cwd=state.folder, env={**os.environ, **own}, start_new_session=True,
                               stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # fmt: skip
    try:
        print(f"takes trainings of pool {pool} at {os.environ['PREFECT_API_URL']}; Ctrl-C ends it", flush=True)
        code = process.wait()
    except Stopped:
        ignore_signals()
        _end(psutil.Process(process.pid))
        raise
    raise UserError(f"Prefect's worker has ended with code {code}: its own lines stand above")


def _end(worker: psutil.Process) -> None:
    """End the flow runs of ``worker``, then itself."""
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.suspend()  # else it takes the next task when this one is done
        flows = [child for child in worker.children(recursive=True) if _is_flow(child)]
        if flows:
            exits.note("saving what the flow run has, and copying it to the remote")
        for flow in flows:
            with contextlib.suppress(psutil.NoSuchProcess):
                flow.terminate()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(map(_lives, flows)):
            time.sleep(0.1)
        worker.terminate()
        worker.resume()
        _, alive = psutil.wait_procs([worker], timeout=10)
        for process in alive:
            process.kill()


def _is_flow(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", "prefect.engine"]
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return False


def _lives(process: psutil.Process) -> bool:
    """Whether ``process`` works; its parent, which is suspended, does not collect what is left of it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _source() -> str:
    """Where the flow is imported from: the code that runs here."""
    return str(Path(__file__).resolve().parents[2])
