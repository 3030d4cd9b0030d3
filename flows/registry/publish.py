"""Publish a pipeline run: record it in git, log it in MLflow, register its model, decide on promotion; idempotent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.errors import UserError
from components.register.params import RegisterParams
from flows.history import store
from flows.history.store import PipelineRun
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import RUN_KEY, Tracker
from flows.registry.versions import CHAMPION, Versions
from flows.workspace.paths import State


def publish(state: State, outcomes: dict[str, str], metrics: MetricStream) -> dict[str, Any]:
    """Record the run in the working tree, register its model and let the gate decide; what `published` returns later.

    ``outcomes`` says of each stage whether it was executed, restored or unchanged.
    """
    params = register_params(state.root)
    run = store.current(state.root)
    if run is None:
        raise UserError("dvc.lock does not hold every stage yet: run `stillroom run`")
    tracker = metrics.tracker
    known = store.all_runs(state.root)
    earlier = next((other for other in known if other.key == run.key), None)
    about = dict(earlier.about) if earlier else {}
    if "executed" in outcomes.values() or "stages" not in about:
        about["stages"] = outcomes
    run = replace(run, about=about)
    if earlier and earlier.about:  # made then, from that commit; now it is only found again
        run = replace(run, commit=earlier.commit, dirty=earlier.dirty)
    store.record(state.root, run)
    run_id = tracker.ensure(run)
    versions = Versions(tracker, params.name)
    version = versions.add(run, run_id)
    if version is None:
        raise UserError("the DVC cache has lost files of this run: run `dvc pull`, or `stillroom run --force train`")
    decision = about.get("decision")
    if decision is None:
        decision = versions.decide(version, params)
        decision["promotion"] = 1 + max(map(_promotion, known), default=0) if decision["promote"] else 0
        versions.conclude(version, decision)
        if decision["promote"]:
            versions.promote(version)
        # Last, so that a run that is killed before this line decides again and loses nothing.
        store.record(state.root, replace(run, about={**about, "decision": decision}))
    elif decision["promote"] and versions.champion() is None:  # the database was lost, the history was not
        versions.conclude(version, decision)
        versions.promote(version)
    champion = versions.champion()
    result = {
        "key": run.key,
        "run": run_id,
        "experiment": tracker.experiment,
        "name": params.name,
        "version": int(version.version),
        "champion": int(champion.version) if champion else None,
        "reason": decision["reason"],
        "uri": tracker.uri,
        "register": params.model_dump(),
    }
    files.write_text(_result_file(state), json.dumps(result, indent=1) + "\n")
    return result


def published(state: State) -> dict[str, Any] | None:
    """What `publish` returned for the run in the working tree; None when that was not published yet."""
    try:
        result = json.loads(_result_file(state).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    run = store.current(state.root)
    same = (
        run is not None
        and result.get("key") == run.key
        and result.get("uri") == os.environ["MLFLOW_TRACKING_URI"]
        and result.get("register") == register_params(state.root).model_dump()
        and (not result["uri"].startswith("sqlite:") or Path(result["uri"].removeprefix("sqlite:///")).is_file())
    )
    return result if same else None


def sync(state: State, say: Callable[[str], None]) -> int:
    """Create or complete the MLflow run and the version of each pipeline run in git, and the alias; returns how many.

    Nothing is trained and nothing is decided again: the decision is in the run's record.
    """
    params = register_params(state.root)
    tracker = Tracker(state, os.environ["MLFLOW_TRACKING_URI"])
    closed = tracker.repair()
    if closed:
        say(f"ended {closed} MLflow run(s) that a killed process had left open")
    known = store.all_runs(state.root)
    here = store.current(state.root)
    if here and here.key not in {run.key for run in known}:
        store.record(state.root, here)
        known.append(here)
    versions = Versions(tracker, params.name)
    found = {}
    for run in known:
        run_id = tracker.ensure(run)
        decision = run.about.get("decision")
        if decision is None:
            say(f"pipeline run {run.key[:8]}: MLflow run {run_id}. Not compared with the champion yet.")
            continue
        version = versions.add(run, run_id)
        if version is None:
            say(f"pipeline run {run.key[:8]}: MLflow run {run_id}; model not in DVC's cache: `dvc pull`")
            continue
        versions.conclude(version, decision)
        found[_promotion(run)] = version
        say(f"pipeline run {run.key[:8]}: MLflow run {run_id}, {params.name} version {version.version}")
    latest = max(found, default=0)
    # An alias that is there may have been moved by hand: only a lost one is set again.
    if latest and versions.champion() is None:
        versions.promote(found[latest])
        say(f"{params.name}@{CHAMPION} is version {found[latest].version} again")
    return len(known)


def promote(state: State, number: int, reason: str) -> str:
    """Move the alias to version ``number`` by hand, with ``reason`` on record; says in one line what was done."""
    params = register_params(state.root)
    tracker = Tracker(state, os.environ["MLFLOW_TRACKING_URI"])
    versions = Versions(tracker, params.name)
    version = versions.resolve(f"/{number}")
    known = store.all_runs(state.root)
    run = next((one for one in known if one.key == version.tags.get(RUN_KEY)), None)
    if run is None:
        raise UserError(
            f"{params.name} version {number}: not made in this checkout: promote it in the one that made it"
        )
    champion = versions.champion()
    decision = {
        **run.about.get("decision", {}),
        "against": f"{params.name} version {champion.version}" if champion else None,
        "promote": True,
        "promotion": 1 + max(map(_promotion, known), default=0),
        "reason": f"Promoted by hand: {reason}",
    }
    store.record(state.root, replace(run, about={**run.about, "decision": decision}))
    versions.conclude(version, decision)
    versions.promote(version)
    return f"{params.name}@{CHAMPION} is version {number}: {decision['reason']}"


def register_params(root: Path) -> RegisterParams:
    """Section ``register`` of params.yaml; no stage reads it, since the alias is shared and not cached."""
    sections = config.read(root / config.FILE)
    return config.section(sections, "register", RegisterParams)


def _result_file(state: State) -> Path:
    return state.folder / "concluded.json"


def _promotion(run: PipelineRun) -> int:
    """The number of this promotion, counted from 1; 0 when the run was not promoted."""
    return int(run.about.get("decision", {}).get("promotion", 0))
