"""The flow of a worker: one stage at one commit. Deployment ``train/gpu`` runs it in pool ``gpu``.

Whoever reaches Prefect's API can start it, so it takes no path and no command: where the clone lies is the worker's own
matter.  It imports no more than a worker needs: no server, no reports (tests/worker/test_imports.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.states import State as PrefectState

from components.base import stopping
from components.base.errors import UserError, brief
from components.base.stopping import Stopped
from flows.dvc import apart
from flows.dvc.faults import StageKilled
from flows.dvc.shelf import RemoteGone, Shelf
from flows.registry.metrics import TaskStream
from flows.worker import ancestors, work
from flows.worker.keeper import Keeper
from flows.worker.task import Result, Task
from flows.workspace import lock
from flows.workspace.paths import State

ROOT = "STILLROOM_WORKSPACE"
"""Environment of a worker: its clone of the project."""
_WAITS = [5.0, 15.0, 30.0, 60.0]
"""Seconds before each new try of what a network that is away for a while makes fail."""


def _may_pass(_: Any, __: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), RemoteGone)


_OPTIONS: Any = {"cache_policy": NO_CACHE, "persist_result": False}
_RETRIED: Any = {**_OPTIONS, "retries": len(_WAITS), "retry_delay_seconds": _WAITS, "retry_condition_fn": _may_pass}


@task(name="prepare", task_run_name="prepare", **_RETRIED)
def prepare(workspace: Path, wanted: Task) -> Path:
    """Bring the commit and the inputs, and check them."""
    return work.prepare(workspace, wanted)


@task(name="train", task_run_name="{wanted.stage}", **_OPTIONS)
def train(where: Path, wanted: Task, metrics: TaskStream | None) -> float:
    """Run the stage; what it saves meanwhile goes to the remote beside it."""
    sinks = (metrics.log, metrics.keep) if metrics else (lambda *_: None, lambda *_: None)
    return work.run(where, wanted, log=get_run_logger(), metrics=sinks[0], files=sinks[1])


@task(name="deliver", task_run_name="deliver", **_RETRIED)
def deliver(where: Path, wanted: Task, shelf: Shelf, seconds: float, run_id: str | None) -> Result:
    """Copy outputs and result to the remote."""
    return work.deliver(where, wanted, shelf, seconds, run_id)


@flow(name="train", persist_result=False)
def train_stage(commit: str, inputs: str, stage: str) -> PrefectState[Any]:
    """Run ``stage`` at ``commit`` from what has the digest ``inputs``, unless its result is there already.

    The name of the state says how it ended: Found, Delivered, one of PASSING, or Refused: no other try will go better.
    """
    log = get_run_logger()
    try:
        with _stoppable(log):
            name, line = _work(Task(commit, inputs, stage).checked(), log)
    except RemoteGone as error:
        return Failed(name="Unreachable", message=str(error))
    except StageKilled as error:
        return Failed(name="Killed", message=str(error))
    except UserError as error:
        return Failed(name="Refused", message=str(error))
    return Completed(name=name, message=line)


def _work(wanted: Task, log: logging.Logger | logging.LoggerAdapter) -> tuple[str, str]:
    """The name of the state that the flow run ends in, and what it did in one line."""
    state = _workspace()
    tracked = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    state.enter()
    shelf, name = apart.shelf(state.root), str(flow_run.id or os.getpid())
    where = work.place(state.root, wanted)
    keeper = Keeper(shelf, wanted, where / ".stillroom" / wanted.stage, name, log.info)
    with lock.held(state.lock, what=f"task {wanted.inputs[:12]}", wait=True, say=log.info):
        if work.found(shelf, wanted) or not keeper.claim():
            return "Found", "its result is there already"
        metrics = TaskStream(state, wanted.inputs) if tracked else None
        try:
            with keeper:
                prepare(state.root, wanted)
                if count := keeper.restore():
                    log.info("goes on from a checkpoint of another worker, %d files", count)
                seconds = train(where, wanted, metrics)
                made = deliver(where, wanted, shelf, seconds, metrics.run_id if metrics else None)
                keeper.forget()
        except UserError as error:
            if metrics and not isinstance(error, RemoteGone | StageKilled):
                metrics.stop("FAILED")
            raise
        work.clear(state.root, where)
    return "Delivered", f"{wanted.stage} took {made.seconds:.0f} s on {made.machine}"


def _workspace() -> State:
    place = os.environ.get(ROOT, "")
    if not place or not (Path(place) / ".dvc").is_dir():
        raise UserError(f"{ROOT}={place!r}: wanted, in the environment of the worker, a clone of the project")
    return State(Path(place).resolve())


@contextmanager
def _stoppable(log: logging.Logger | logging.LoggerAdapter) -> Iterator[None]:
    """End in order, once, on SIGTERM and when whoever started this process is gone; for Prefect it is a crash."""
    import signal

    before = signal.signal(signal.SIGTERM, stopping.stop)
    try:
        with ancestors.watched():
            yield
    except Stopped as stopped:
        log.warning("stopped by %s: its checkpoint is in the remote, another worker goes on", brief(stopped))
        raise TerminationSignal(stopped.number) from None
    finally:
        signal.signal(signal.SIGTERM, before)
