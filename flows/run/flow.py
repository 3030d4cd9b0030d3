"""The Prefect flow: a task for each stage, the contract before training, and at the end publishing.

Prefect decides when and where; each task brings one DVC stage up to date. Prefect caches and persists
nothing: DVC decides what is up to date.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from components.base.errors import UserError, brief
from components.pipeline import PIPELINE, Stage
from flows.data import contract, diff
from flows.dvc import engine
from flows.dvc.faults import StageKilled
from flows.history import elsewhere, store
from flows.registry import publish
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import Unreachable
from flows.run.named import call
from flows.run.outage import Watch, asked
from flows.worker import call as worker
from flows.worker import pool
from flows.worker.prefects import Away, Pool
from flows.worker.task import APART
from flows.workspace import exits
from flows.workspace.events import following
from flows.workspace.paths import State

RETRY_SECONDS = 10.0
"""What a stage that was killed is given until it is tried once more: who took the memory may be done."""


def _was_killed(task: Any, run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    if isinstance(error, StageKilled):
        exits.note(f"{error}; tried once more in {RETRY_SECONDS:.0f} seconds")
        return True
    return False


def _nowhere(*_: object) -> None:
    """Where what a stage measures goes when nobody keeps it."""


def _task(stage: Stage) -> Callable[..., str]:
    """The task that brings ``stage`` up to date; without ``metrics`` MLflow is not even asked."""

    @task(
        name=stage.name, task_run_name=stage.name, description=stage.name, cache_policy=NO_CACHE, persist_result=False,
        retries=1, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=_was_killed,
    )  # fmt: skip
    def bring_up_to_date(root: str, force: bool, metrics: MetricStream | None) -> str:
        log = get_run_logger()
        state = State(Path(root))
        where = pool.of(stage.name)
        if where:
            how = worker.brought(state.root, stage.name, where, force=force, metrics=metrics, say=exits.note)
            log.info("%s, on a worker of pool %s: %s", stage.name, where, how)
            return how
        sinks = (metrics.log, metrics.keep) if metrics else (_nowhere, _nowhere)
        with following(state.events, stage.name, log=log, metrics=sinks[0], files=sinks[1]):
            how = engine.reproduce(state.root, stage, watched=state.events, force=force)
        if how == "executed" and stage.name in APART:
            elsewhere.forget(state.root)
        log.info("%s: %s", stage.name, how)
        return how

    return bring_up_to_date


TASKS = {stage.name: _task(stage) for stage in PIPELINE}


def _reachable(task: Any, run: Any, state: Any) -> bool:
    """Whether a retry can help: with a remote tracking server it can, unless the user has to correct something."""
    remote = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    error = state.result(raise_on_failure=False)
    return remote and (isinstance(error, Unreachable) or not isinstance(error, UserError))


@task(name="changes", task_run_name="changes", cache_policy=NO_CACHE, persist_result=False)
def show_changes(root: str) -> None:
    """Show in reports/changes.html what changed in the data since the last published pipeline run."""
    log, state = get_run_logger(), State(Path(root))
    if store.last_decided(state.root) is None:
        log.info("no earlier pipeline run to compare the data with")
        return
    try:
        found, names = diff.diff(state, "last", "now", pictures=200)
    except UserError as error:  # DVC's cache was cleared, for instance: training does not need the page
        log.warning("what changed in the data cannot be shown: %s", error)
    else:
        log.info(diff.lines(found, names))


@task(name="contract", task_run_name="contract", cache_policy=NO_CACHE, persist_result=False)
def check_contract(root: str) -> None:
    """Stop here when the data does not satisfy section 'contract' of params.yaml."""
    get_run_logger().info(contract.check(Path(root)))


@contextlib.contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    """Publish to a shared MLflow server from one machine at a time; the champion is read again before it moves anyway.

    Without Prefect's server nobody waits: that one too may be stopped, and the ledger sorts out who came second.
    """
    with contextlib.ExitStack() as stack:
        if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
            try:
                stack.enter_context(Pool("").alone("stillroom publishes"))
            except Away as error:
                say(f"{error}: published without waiting for other machines")
        yield


@task(
    name="register", task_run_name="register", retries=2, retry_delay_seconds=10, retry_condition_fn=_reachable,
    cache_policy=NO_CACHE, persist_result=False,
)  # fmt: skip
def register(root: str, how: dict[str, str], seconds: dict[str, float], metrics: MetricStream) -> dict[str, Any]:
    """Record the pipeline run in git and MLflow, register its model and let the gate decide on promotion."""
    log = get_run_logger()
    with _alone(log.warning):
        result = publish.publish(State(Path(root)), how, metrics, say=log.warning, seconds=seconds)
    log.info("register: %s", result["reason"])
    return result


@flow(name="stillroom", flow_run_name="pipeline run in progress", validate_parameters=False, persist_result=False)
def pipeline(root: str, force: tuple[str, ...], say: Callable[[str, str], None], watch: Watch) -> dict[str, Any]:
    """Bring every stage up to date and publish the result; the caller holds the checkout's lock and a snapshot.

    ``force`` names the stages to run although they are up to date. ``say`` gets the name of each stage that
    is done, and whether it was executed, restored or unchanged. ``watch`` is told how the work ended.
    """
    state = State(Path(root))
    watch.begin(state)
    state.events.unlink(missing_ok=True)
    store.begin(state.root)
    metrics = MetricStream(state)
    how: dict[str, str] = {}
    seconds: dict[str, float] = {}
    try:
        metrics.open()  # what fails is told before the work
        for stage in PIPELINE:
            if stage.name == "train":
                if set(how.values()) != {"unchanged"}:
                    show_changes(root)
                check_contract(root)
            began = time.monotonic()
            how[stage.name] = TASKS[stage.name](root, stage.name in force, metrics)
            seconds[stage.name] = time.monotonic() - began
            say(stage.name, how[stage.name])
        result = register(root, how, seconds, metrics)
        watch.done(result)
        call(result["did"])
        return result
    except BaseException as raised:
        error = asked(raised)
        watch.ended(error)
        if isinstance(error, Exception):  # else Prefect's server may be stopping too
            call(f"failed after {', '.join(how) or 'nothing'}: {brief(error)}")
        metrics.stop("FAILED" if isinstance(error, Exception) else "KILLED")
        raise error from raised.__cause__
