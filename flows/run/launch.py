"""What `stillroom run`, `status`, `sync` and `promote` do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from components.pipeline import PIPELINE, stage
from flows.data import look
from flows.dvc import engine, schema
from flows.run import child
from flows.workspace import exits, lock, processes
from flows.workspace.paths import State


def run(state: State, *, dry_run: bool, force: tuple[str, ...], wait: bool) -> None:
    """One pass: nothing at all when nothing changed, else the flow."""
    for name in force:
        stage(name)
    with lock.held(state.lock, what="stillroom run", wait=wait, say=exits.note) as handle, processes.stoppable():
        look.look(state, say=exits.note)
        stale = engine.stale(state.root)
        if dry_run:
            schema.check(state.root)
            _plan(state, stale, force)
            return
        from flows.data import contract
        from flows.registry import publish

        told = None if stale or force else publish.concluded(state)
        if told:
            contract.clear(state.root)
            print("Nothing to do: every stage is up to date and registered.\n")
            for line in contract.foretell(state.root):
                exits.note(f"the next training would be stopped: {line}")
        else:
            child.run(state.root, force, lock=handle)
            told = publish.concluded(state)
            assert told is not None, "a pass that ended well has concluded"
        print(where(state, told))


def status(state: State) -> None:
    """Print what is stale and what was registered last."""
    from flows.registry import publish

    stale = engine.stale(state.root)
    print(f"stale: {', '.join(stale) if stale else 'nothing'}")
    told = publish.concluded(state)
    if told:
        print(f"registered: {told['name']} version {told['version']} ({told['reason']})")
    else:
        print("registered: not what lies here; `stillroom run` does it")


def sync(state: State) -> None:
    """Rebuild what MLflow has to say from git and DVC."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom sync", wait=True, say=exits.note):
        count = publish.sync(state, say=print)
    print(f"{count} pass(es) in MLflow" if count else "no pass yet: `stillroom run` makes the first")


def promote(state: State, number: int, reason: str) -> None:
    """Move the alias by hand."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom promote", wait=True, say=exits.note):
        print(publish.promote(state, number, reason))


def where(state: State, told: dict[str, Any]) -> str:
    """Where to look after a pass."""
    at = Path(os.path.relpath(state.root))
    verdict = "champion" if told["champion"] == told["version"] else f"champion is {told['champion'] or 'nobody'}"
    rows = {
        "model": f"models:/{told['name']}/{told['version']}: {verdict}; {told['reason']}",
        "sample grid": at / "models/evaluation/samples.png",
        "data report": at / "reports/data.html",
        "data changes": at / "reports/changes.html",
        "model report": at / "reports/model.html",
        "MLflow run": f"{told['run']}  (after `stillroom ui`: "
        f"http://127.0.0.1:5000/#/experiments/{told['experiment']}/runs/{told['run']})",
        "draw pictures": f"stillroom sample --model models:/{told['name']}@champion --num 16 --out grid.png",
        "open the UIs": "stillroom ui",
    }
    if not (state.root / "reports/changes.html").is_file():
        del rows["data changes"]
    return "\n".join(f"{name:>14}  {value}" for name, value in rows.items())


def _plan(state: State, stale: list[str], force: tuple[str, ...]) -> None:
    from flows.data import contract

    names = [entry.name for entry in PIPELINE if entry.name in stale or entry.name in force]
    print("would run: " + ", ".join(names) if names else "would run nothing: every stage is up to date")
    if "train" not in names:
        return
    if "profile" in names:
        print("would hold the contract against the new profile before it trains")
        return
    bad = contract.foretell(state.root)
    print(f"would stop before it trains: {'; '.join(bad)}" if bad else "contract: holds")
