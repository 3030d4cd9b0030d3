"""What a schedule runs: one table of deployments, from which prefect.yaml is rendered.

``python -m flows.run.deployments [--check]``; `stillroom deploy` and `stillroom serve` render it with other times.
A row is all that a new deployment needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from flows.dvc import rendered

ROOT = Path(__file__).resolve().parents[2]
HEAD = "# Rendered from flows/run/deployments.py by `make dvc`; a test says when it is out of date. Do not edit.\n"
EVENT = "stillroom.data.changed"
"""Emitted by `refresh` when the data is another."""


@dataclass(frozen=True)
class Deployment:
    """One flow, and what starts it: a cron schedule, an event, or, without either, a person or another flow."""

    name: str
    """As Prefect has it: FLOW/NAME."""
    entrypoint: str
    """Where the flow is: ``module.function``, of the installed package, so that no path is in it."""
    description: str
    pool: str = "cpu"
    cron: str = ""
    event: str = ""
    queue: str = ""
    """The work queue of the pool, where its order matters; "" for the pool's own."""
    limit: int | None = 1
    """How many run at once; a further one is cancelled, not queued. None: as many as the pool's workers take."""

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self.name.split("/")[0]


TABLE = (
    Deployment(
        "refresh/hourly", "flows.run.refresh.refresh", "Take in new images and judge them; train nothing.",
        cron="17 * * * *",
    ),
    Deployment(
        "retrain/nightly", "flows.run.nightly.retrain", "Bring the model up to date, when anything changed.",
        cron="0 3 * * *", event=EVENT,
    ),
    Deployment(
        "promote/gate", "flows.run.gate.promote", "Approve a version that waits, or make another one the champion.",
    ),
    Deployment(
        "rollback/manual", "flows.keep.deployed.rollback", "Make the champion before this one the champion again.",
    ),
    Deployment(
        "backfill/manual", "flows.keep.deployed.backfill", "Register what a list of commits makes, and promote none.",
    ),
    Deployment(
        "reap/15min", "flows.keep.deployed.reap", "Close the runs that nobody works on, in Prefect and in MLflow.",
        cron="*/15 * * * *",
    ),
    Deployment(
        "verify/nightly", "flows.keep.deployed.verify", "Check the bytes of all versions, and what aliases name whole.",
        cron="30 5 * * *",
    ),
    Deployment(
        "gc/weekly", "flows.keep.deployed.gc", "Say what nothing needs any more; removed only where `yes` says so.",
        cron="0 6 * * 0",
    ),
    Deployment(
        "train/gpu", "flows.worker.flow.train_stage", "One stage at one commit, on a worker; `retrain` calls it.",
        pool="gpu", limit=None,
    ),
)  # fmt: skip
POOLS = {
    "cpu": "Stages of the data, and whatever needs no GPU: beside the checkout that it works in.",
    "gpu": "Training: a worker on each machine with GPUs.",
}
"""The work pools, of type process, and what their workers do."""
QUEUES = {"gpu": ("interactive", "scheduled")}
"""The work queues of a pool, what comes first before what comes later."""
JOB = {
    # Without "env": into one that is there Prefect merges what whoever creates a run puts into its job variables.
    "job_configuration": {
        # Prefect's own way starts two more Pythons to find out which flow a run is of: 4 s of CPU each time.
        "command": "python -m prefect.engine",
        "labels": {},
        "name": None,
        "stream_output": True,
        "working_dir": None,
    },
    "variables": {"type": "object", "properties": {}},
}
"""The base job template of the pools: nothing of a job, its command least of all, is for who creates a run to say."""


def render(
    *, cron: Mapping[str, str] = MappingProxyType({}), timezone: str = "UTC", only: Sequence[Deployment] = TABLE
) -> str:
    """The text of prefect.yaml.

    ``cron``: the times of deployments, by name, that are not the table's ("": no schedule). ``timezone`` is that of all
    schedules.
    """
    rows = [_row(row, cron.get(row.name, row.cron), timezone) for row in only]
    # `pull: []`: the flows are in the worker's installed package, and nothing is fetched to run them.
    return HEAD + yaml.safe_dump({"name": "stillroom", "pull": [], "deployments": rows}, sort_keys=False, width=110)


def _row(row: Deployment, cron: str, timezone: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": row.name.split("/")[1],
        "entrypoint": row.entrypoint,
        "description": row.description,
        "work_pool": {"name": row.pool, **({"work_queue_name": row.queue} if row.queue else {})},
        "schedules": [{"cron": cron, "timezone": timezone}] if cron else [],
    }
    if row.limit is not None:
        found["concurrency_limit"] = {"limit": row.limit, "collision_strategy": "CANCEL_NEW"}
    if row.event:
        found["triggers"] = [
            {"type": "event", "name": f"{row.name} on {row.event}", "expect": [row.event], "posture": "Reactive"}
        ]
    return found


if __name__ == "__main__":
    texts = {"prefect.yaml": render(), "deploy/pool-process.json": json.dumps(JOB, indent=2) + "\n"}
    sys.exit(max(rendered.write_or_check(ROOT / path, text, sys.argv[1:]) for path, text in texts.items()))
