"""The Prefect flow: one task for each stage of the table, the contract before training, the record and the gate.

Prefect says when and where; each task brings one DVC stage up to date. Nothing is cached or persisted
here: what is up to date is DVC's to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from components.base.errors import UserError
from components.pipeline import PIPELINE, Stage
from flows.data import contract, diff
from flows.dvc import engine
from flows.history import store
from flows.registry import publish
from flows.registry.metrics import Curves
from flows.workspace.events import following
from flows.workspace.paths import State


def _task(stage: Stage) -> Callable[..., str]:
    """The task that brings ``stage`` up to date."""

    @task(name=stage.name, description=stage.name, cache_policy=NO_CACHE, persist_result=False)
    def bring_up_to_date(root: str, force: bool, curves: Curves) -> str:
        log = get_run_logger()
        state = State(Path(root))
        with following(state.events, stage.name, log=log, points=curves.add):
            how = engine.reproduce(state.root, stage, watched=state.events, force=force)
        log.info("%s: %s", stage.name, how)
        return how

    return bring_up_to_date


TASKS = {stage.name: _task(stage) for stage in PIPELINE}


def _reachable(task: Any, run: Any, state: Any) -> bool:
    """A user's mistake does not mend itself; a tracking server that is restarted does."""
    remote = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    return remote and not isinstance(state.result(raise_on_failure=False), UserError)


@task(name="changes", cache_policy=NO_CACHE, persist_result=False)
def compare(root: str) -> None:
    """Show in reports/changes.html what changed in the data since the last pass that the gate has seen."""
    log, state = get_run_logger(), State(Path(root))
    if store.last_judged(state.root) is None:
        log.info("no earlier pass to compare the data with")
        return
    try:
        found, names = diff.diff(state, "last", "now", pictures=200)
    except UserError as error:  # DVC's cache was cleared, say: a page less is no reason to stop
        log.warning("what changed in the data cannot be shown: %s", error)
    else:
        log.info(diff.told(found, names))


@task(name="contract", cache_policy=NO_CACHE, persist_result=False)
def hold(root: str) -> None:
    """Stop here, in one line, when the data is not what section 'contract' of params.yaml asks for."""
    get_run_logger().info(contract.check(Path(root)))


@task(
    name="register", retries=2, retry_delay_seconds=10, retry_condition_fn=_reachable, cache_policy=NO_CACHE,
    persist_result=False,
)  # fmt: skip
def register(root: str, how: dict[str, str], curves: Curves) -> dict[str, Any]:
    """Remember the pass in git, tell MLflow, make a version of it and let the gate decide."""
    log = get_run_logger()
    told = publish.conclude(State(Path(root)), how, curves)
    log.info("register: %s", told["reason"])
    return told


@flow(name="stillroom", validate_parameters=False, persist_result=False)
def pipeline(root: str, force: tuple[str, ...], say: Callable[[str, str], None]) -> dict[str, Any]:
    """Bring every stage up to date and register what came of it; the caller holds the checkout's lock.

    ``force`` names the stages to run although they are up to date. ``say`` is told of each stage that
    is done and how: executed, restored or unchanged.
    """
    state = State(Path(root))
    state.events.unlink(missing_ok=True)
    curves = Curves(state)
    how: dict[str, str] = {}
    try:
        for stage in PIPELINE:
            if stage.name == "train":
                if set(how.values()) != {"unchanged"}:
                    compare(root)
                hold(root)
            how[stage.name] = TASKS[stage.name](root, stage.name in force, curves)
            say(stage.name, how[stage.name])
        return register(root, how, curves)
    except BaseException as error:
        curves.stop("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
