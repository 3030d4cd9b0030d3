"""`stillroom serve`: all that a schedule needs on one machine: two servers, the deployments, and a worker."""

from __future__ import annotations

import os
import sys

from flows.run import deploy, deployments, servers
from flows.run.variables import ROOT, SHARED
from flows.workspace import exits, lock, processes
from flows.workspace.paths import State

POOL = "cpu"
"""The pool whose worker runs here, and whose deployments are made."""
POLL_SECONDS = 2
"""How often the worker asks for runs that are due: Prefect's own 10 are more than a night without news takes."""
HEARTBEAT_SECONDS = 30
"""How often a flow run says that it goes on, so that one whose process is gone can be told from one that works."""


def serve(state: State, ports: servers.Ports, when: deploy.Times, *, pull: bool, push: bool) -> None:
    """Run what is deployed at its times until Ctrl-C or SIGTERM; UserError when a part of it ends by itself."""
    alone = lock.held(state.folder / "serve.lock", what="stillroom serve", wait=False, say=exits.note)
    with processes.stoppable(), alone, servers.running(state, ports) as started:
        deploy.deploy(state, when, only=[row for row in deployments.TABLE if row.pool == POOL], say=exits.note)
        with (state.folder / "servers.log").open("ab") as log:
            started["worker"] = servers.start(worker_command(POOL), log, **worker(state, pull=pull, push=push))
        print(f"runs at `{when.nightly}` ({when.timezone}) when something changed, scheduled by Prefect at "
              f"{os.environ['PREFECT_API_URL'].removesuffix('/api')}; Ctrl-C ends it", flush=True)  # fmt: skip
        servers.wait_while(state, started)


def worker_command(pool: str) -> list[str]:
    """The command line of a worker of ``pool``; it installs nothing."""
    return [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process",
            "--install-policy", "never"]  # fmt: skip


def worker(state: State, *, pull: bool, push: bool) -> dict[str, str]:
    """The environment of a worker that works in this checkout."""
    return {
        ROOT: str(state.root),
        SHARED: " ".join(["pull"] * pull + ["push"] * push),
        "PYTHONPATH": deploy.python_path(),
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }
