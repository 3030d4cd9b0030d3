"""What `stillroom run`, `status`, `sync` and `promote` do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.pipeline import PIPELINE, stage
from flows.data import look
from flows.dvc import engine, fetch, schema, snapshot
from flows.dvc.freshness import Freshness
from flows.registry import mlflow
from flows.run import child
from flows.workspace import exits, lock, processes
from flows.workspace.paths import State


def run(state: State, *, dry_run: bool, force: tuple[str, ...], wait: bool) -> None:
    """One run of the pipeline; nothing at all when nothing changed."""
    for name in force:
        stage(name)
    if dry_run:
        _plan(state, force)
        return
    with (
        lock.held(state.lock, what="stillroom run", wait=wait, say=exits.note) as handle,
        processes.stoppable(),
        snapshot.taken(state.root),  # the process that child.run starts works from it too
    ):
        engine.bring_back(state.root)
        look.look_at_sources(state, say=exits.note)
        stale = engine.stale(state.root)
        from flows.data import contract
        from flows.registry import publish

        result, why = (None, "") if stale or force else publish.published(state)
        if result:
            contract.remove_page(state.root)
            print("Nothing to do: every stage is up to date and registered.\n")
            for line in contract.violations(state.root):
                exits.note(f"the next training would be refused: {line}")
        else:
            child.run(state.root, force, lock=handle)
            result, why = publish.published(state)
            if result is None:
                raise UserError(f"the run has ended, but {why}")
        print(summary(state, result))


def status(state: State) -> None:
    """Print what is stale and what was registered last; beside a run too, since nothing is changed or locked."""
    from flows.registry import publish

    stale = _stale(state)
    print(f"stale: {', '.join(stale) if stale else 'nothing'}")
    result, why = publish.published(state)
    if result:
        print(f"registered: {_model(result)}")
    else:
        print(f"{why[0].upper()}{why[1:]}: run `stillroom run`.")


def sync(state: State) -> None:
    """Write MLflow's runs and versions again from git and DVC."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom sync", wait=True, say=exits.note):
        count = publish.sync(state, say=print)
    print(f"{count} pipeline run(s) in MLflow" if count else "no pipeline run yet: `stillroom run` makes the first")


def promote(state: State, number: int, reason: str) -> None:
    """Move the alias by hand."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom promote", wait=True, say=exits.note):
        print(publish.promote(state, number, reason))


def summary(state: State, result: dict[str, Any]) -> str:
    """Where to find what a pipeline run made."""
    at = Path(os.path.relpath(state.root))
    rows = {
        "model": _model(result),
        "sample grid": at / "models/evaluation/samples.png",
        "data report": at / "reports/data.html",
        "data changes": at / "reports/changes.html",
        "model report": at / "reports/model.html",
        "MLflow run": _where(result),
        "draw pictures": f"stillroom sample --model models:/{result['name']}@champion --num 16 --out grid.png",
        "open the UIs": "stillroom ui",
    }
    if not (state.root / "reports/changes.html").is_file():
        del rows["data changes"]
    return "\n".join(f"{name:>14}  {value}" for name, value in rows.items())


def _model(result: dict[str, Any]) -> str:
    """The version, who is champion, and what was decided."""
    name = f"models:/{result['name']}/{result['version']}"
    if result["champion"] == result["version"]:
        model = f"{name} is the champion."
    elif result["champion"]:
        model = f"{name} is registered. The champion is version {result['champion']}."
    else:
        model = f"{name} is registered. There is no champion."
    return f"{model} {result['reason']}"


def _where(result: dict[str, Any]) -> str:
    """The MLflow run and its page."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    served = uri.startswith("http")
    # Without the last part MLflow opens its pages for language models, which show nothing of a training.
    page = f"/#/experiments/{result['experiment']}/runs/{result['run']}?workflowType=machine_learning"
    address = f"{mlflow.shown(uri).rstrip('/') if served else 'http://127.0.0.1:5000'}{page}"
    return f"{result['run']}  ({address})" if served else f"{result['run']}  (after `stillroom ui`: {address})"


def _plan(state: State, force: tuple[str, ...]) -> None:
    """Print what a run would do; like `status` it changes and locks nothing."""
    from flows.data import contract

    schema.check(state.root)
    stale = _stale(state, also=("collect",) if look.sources_changed(state, say=exits.note) else ())
    names = [entry.name for entry in PIPELINE if entry.name in stale or entry.name in force]
    lacking = fetch.missing(state.root) if (state.root / "dvc.lock").is_file() else []
    if lacking:
        print(f"not here: {', '.join(lacking)}; a run first looks for them in DVC's cache and its remote")
    print("would run: " + ", ".join(names) if names else "would run nothing: every stage is up to date")
    if "train" not in names:
        return
    if "profile" in names:
        print("would check the contract on the new data before training")
        return
    bad = contract.violations(state.root)
    print(f"would stop before training: {'; '.join(bad)}" if bad else "contract: holds")


def _stale(state: State, *, also: tuple[str, ...] = ()) -> list[str]:
    fresh = Freshness(state.root, state.folder / "fresh.json")
    try:
        return fresh.stale(also=also)
    finally:
        fresh.save()
