"""`stillroom reap`: close the runs that nobody works on, in Prefect and in MLflow; never a living one."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.run import alive, servers
from flows.workspace import lock
from flows.workspace.paths import State

Say = Callable[[str], None]
_START = timedelta(hours=1)
"""What a runner takes to start a flow run that it has taken is seconds; after this long it is dead."""
_NEVER = f"its runner took it more than {_START} ago and has not started it"

FLOWS = (
    "nightly", "retrain", "refresh", "promote", "train", "train_stage", "reap", "verify", "gc", "rollback", "backfill"
)  # fmt: skip
"""The flows of Stillroom's deployments: a server may have others'."""


def by_hand(state: State, say: Say) -> int:
    """Close them from the command line; how many there were.  Prefect is asked only where there is something to ask."""
    count = 0
    if alive.noted(state) or state.servers.is_file():
        with servers.prefect(state) as ready:
            ready()
            count += in_prefect(state, say)
    return count + in_mlflow(state, say)


def in_prefect(state: State, say: Say) -> int:
    """Close the flow runs that no process works on, at the server of the environment; how many.

    A living process holds the lock of its run's note (flows/run/alive.py).  What ended while the server was away gets
    the end that it had.
    """
    return alive.close(state, say) + _never_started(say)


def _never_started(say: Say) -> int:
    """Crash the flow runs of deployments that a killed runner had taken: they keep the place of the next one."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import State as PrefectState
    from prefect.client.schemas.objects import StateType

    pending = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.PENDING]))
    mine = filters.FlowFilter(name=filters.FlowFilterName(any_=list(FLOWS)))
    with get_client(sync_client=True) as client:
        every = client.read_flow_runs(flow_run_filter=filters.FlowRunFilter(state=pending), flow_filter=mine)
        old = [run for run in every if run.deployment_id and run.state and run.state.timestamp < _before()]
        for run in old:
            client.set_flow_run_state(run.id, PrefectState(type=StateType.CRASHED, message=_NEVER), force=True)
            say(f"flow run {run.name}: crashed: {_NEVER}")
    return len(old)


def _before() -> datetime:
    return datetime.now(UTC) - _START


def in_mlflow(state: State, say: Say) -> int:
    """End the MLflow runs of this checkout that are RUNNING while nobody holds it; how many.

    While somebody does, its run is living: nothing is done.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return 0
    try:
        with lock.held(state.lock, what="stillroom reap", wait=False, say=say):
            from flows.registry.mlflow import Tracker, explained

            with explained(uri):
                count = Tracker(state, uri).repair()
    except lock.InUse as error:
        say(f"MLflow's runs are left alone: {error}")
        return 0
    if count:
        say(f"ended {count} MLflow run(s) that a killed process had left open")
    return count
