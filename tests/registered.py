"""The registry of a checkout that a test breaks by hand: its versions, a publish, and a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.registry import publish
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import RUN_KEY, Tracker
from flows.registry.versions import DECISION, MANIFEST_TAG, Versions
from flows.workspace.paths import State


class Killed(BaseException):
    """What ends a process in the middle, as far as its own code can tell."""


def copied(checkout: Path, folder: Path, monkeypatch) -> State:
    """A copy of ``checkout`` in ``folder``, as the present one."""
    shutil.copytree(checkout, folder, symlinks=True)
    state = State(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(state.folder / "dvc"))
    return state


def versions(state):
    """The versions that the registry of ``state`` has."""
    return Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), "denoiser")


def published(state):
    """Publish the run in the working tree again, and what was said."""
    lines = []
    publish.publish(state, {}, MetricStream(state), say=lines.append)
    return lines


def told(state):
    """Everything that a consumer can see of the registry."""
    found = versions(state)
    numbers = {int(one.version): (one.tags[RUN_KEY], one.tags[MANIFEST_TAG], one.tags[DECISION]) for one in found.all()}
    pointed = {alias: int(one.version) for alias in ("champion", "previous", "challenger")
               if (one := found.tracker.version("denoiser", f"@{alias}"))}  # fmt: skip
    return numbers, pointed


def lost(state):
    """Lose the database and all artifacts; and have MLflow forget in this process that it had made the tables."""
    # Here, since two seconds at the top would be spent by each process of `make test`, which leaves this file out.
    import mlflow.store.model_registry.sqlalchemy_store as models_store
    import mlflow.store.tracking.sqlalchemy_store as runs_store
    from mlflow.tracking._model_registry import utils as model_registry
    from mlflow.tracking._tracking_service import utils as tracking

    shutil.rmtree(state.folder / "mlflow")
    for one in (tracking._tracking_store_registry, model_registry._get_store_registry()):
        one._get_store_with_resolved_uri.cache_clear()
    for store_class in (runs_store.SqlAlchemyStore, models_store.SqlAlchemyStore):
        store_class._engine_map.clear()
