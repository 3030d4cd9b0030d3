"""The scheduled pipeline run: a Prefect deployment, served by `stillroom serve`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.schedules import CronSchedule

from components.base.errors import UserError
from flows.data import edited, look
from flows.dvc import engine, schema, snapshot
from flows.registry import publish
from flows.run.flow import call, pipeline
from flows.workspace import lock
from flows.workspace.paths import State


@flow(name="nightly", flow_run_name="nightly run in progress", persist_result=False)
def nightly(root: str) -> str:
    """Look at the source and, only when something changed, run the pipeline; returns the result in one line."""
    log = get_run_logger()
    state = State(Path(root))
    state.enter()
    with lock.held(state.lock, what="nightly", wait=True, say=log.info), snapshot.begun(state.root, log.info):
        edited.check(state.root)
        engine.bring_back(state.root)
        look.look_at_sources(state, say=log.info)
        result: dict[str, Any] | None = None
        if not engine.stale(state.root):
            result, _ = publish.published(state)
        if result:
            line = "nothing to do"
        else:
            schema.check(state.root)
            result = pipeline(root, (), lambda name, how: log.info("%s: %s", name, how))
            line = f"{result['name']} version {result['version']}: {result['reason']}"
    log.info(line)
    call(line)
    return line


def serve(state: State, cron: str) -> None:
    """Start a run at the times of ``cron``, one at a time, until Ctrl-C or SIGTERM."""
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise UserError(f"--cron {cron!r}: not a cron schedule of five fields, such as '0 3 * * *'") from None
    # Prefect's runner does not await its own stop when SIGTERM comes.
    warnings.filterwarnings("ignore", message="coroutine 'Runner.astop' was never awaited")
    nightly.serve(
        name="nightly", cron=cron, parameters={"root": str(state.root)}, limit=1, pause_on_shutdown=False,
        print_starting_message=False,
    )  # fmt: skip
