"""From outputs that are up to date to what git, MLflow and the registry say of them; idempotent."""

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
from flows.history.store import Pass
from flows.registry.metrics import Curves
from flows.registry.mlflow import PASS, Tracker
from flows.registry.versions import CHAMPION, Versions
from flows.workspace.paths import State


def conclude(state: State, how: dict[str, str], curves: Curves) -> dict[str, Any]:
    """Record the pass in the working tree, register it and let the gate decide; what `concluded` returns next time.

    ``how`` says of each stage whether it was executed, restored or unchanged.
    """
    params = register_params(state.root)
    done = store.current(state.root)
    if done is None:
        raise UserError("dvc.lock does not hold every stage yet: run `stillroom run`")
    tracker = curves.tracker
    known = store.remembered(state.root)
    earlier = next((other for other in known if other.key == done.key), None)
    about = dict(earlier.about) if earlier else {}
    if "executed" in how.values() or "stages" not in about:
        about["stages"] = how
    done = replace(done, about=about)
    if earlier and earlier.about:  # made then, from that commit; now it is only found again
        done = replace(done, commit=earlier.commit, dirty=earlier.dirty)
    store.record(state.root, done)
    run_id = tracker.ensure(done)
    versions = Versions(tracker, params.name)
    version = versions.add(done, run_id)
    if version is None:
        raise UserError("the DVC cache has lost files of this pass: run `dvc pull`, or `stillroom run --force train`")
    decision = about.get("decision")
    if decision is None:
        decision = versions.decide(version, params)
        decision["promotion"] = 1 + max(map(_promotion, known), default=0) if decision["promote"] else 0
        versions.conclude(version, decision)
        if decision["promote"]:
            versions.promote(version)
        # Last, so that a run that is killed before this line decides again and loses nothing.
        store.record(state.root, replace(done, about={**about, "decision": decision}))
    elif decision["promote"] and versions.champion() is None:  # the database was lost, the memory was not
        versions.conclude(version, decision)
        versions.promote(version)
    champion = versions.champion()
    told = {
        "key": done.key,
        "run": run_id,
        "experiment": tracker.experiment,
        "name": params.name,
        "version": int(version.version),
        "champion": int(champion.version) if champion else None,
        "reason": decision["reason"],
        "uri": tracker.uri,
        "register": params.model_dump(),
    }
    files.write_text(_note(state), json.dumps(told, indent=1) + "\n")
    return told


def concluded(state: State) -> dict[str, Any] | None:
    """What `conclude` told of the pass that lies in the working tree; None when it has not been told yet."""
    try:
        told = json.loads(_note(state).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    done = store.current(state.root)
    same = (
        done is not None
        and told.get("key") == done.key
        and told.get("uri") == os.environ["MLFLOW_TRACKING_URI"]
        and told.get("register") == register_params(state.root).model_dump()
        and (not told["uri"].startswith("sqlite:") or Path(told["uri"].removeprefix("sqlite:///")).is_file())
    )
    return told if same else None


def sync(state: State, say: Callable[[str], None]) -> int:
    """Create or complete one run for each pass that git and DVC know, its version and the aliases; how many passes.

    Nothing is trained and nothing is decided again: what the gate said is in the record of the pass.
    """
    params = register_params(state.root)
    tracker = Tracker(state, os.environ["MLFLOW_TRACKING_URI"])
    closed = tracker.repair()
    if closed:
        say(f"closed {closed} run(s) that a killed process had left open")
    known = store.remembered(state.root)
    here = store.current(state.root)
    if here and here.key not in {done.key for done in known}:
        store.record(state.root, here)
        known.append(here)
    versions = Versions(tracker, params.name)
    found = {}
    for done in known:
        run_id = tracker.ensure(done)
        decision = done.about.get("decision")
        if decision is None:
            say(f"pass {done.key[:8]}: run {run_id}, not registered (no gate has seen it: `stillroom run`)")
            continue
        version = versions.add(done, run_id)
        if version is None:
            say(f"pass {done.key[:8]}: run {run_id}; its model is not in the DVC cache (`dvc pull` brings it)")
            continue
        versions.conclude(version, decision)
        found[_promotion(done)] = version
        say(f"pass {done.key[:8]}: run {run_id}, {params.name} version {version.version}")
    latest = max(found, default=0)
    # An alias that stands was perhaps moved by hand: only a lost one is put back.
    if latest and versions.champion() is None:
        versions.promote(found[latest])
        say(f"{params.name}@{CHAMPION} is version {found[latest].version} again")
    return len(known)


def promote(state: State, number: int, reason: str) -> str:
    """Move the alias to version ``number`` by hand, with ``reason`` on record; what was done, in one line."""
    params = register_params(state.root)
    tracker = Tracker(state, os.environ["MLFLOW_TRACKING_URI"])
    versions = Versions(tracker, params.name)
    version = versions.resolve(f"/{number}")
    known = store.remembered(state.root)
    done = next((one for one in known if one.key == version.tags.get(PASS)), None)
    if done is None:
        raise UserError(
            f"{params.name} version {number}: no pass in this checkout made it: promote it where it was made"
        )
    champion = versions.champion()
    decision = {
        **done.about.get("decision", {}),
        "against": f"{params.name} version {champion.version}" if champion else None,
        "promote": True,
        "promotion": 1 + max(map(_promotion, known), default=0),
        "reason": f"promoted by hand: {reason}",
    }
    store.record(state.root, replace(done, about={**done.about, "decision": decision}))
    versions.conclude(version, decision)
    versions.promote(version)
    return f"{params.name}@{CHAMPION} is version {number}: {decision['reason']}"


def register_params(root: Path) -> RegisterParams:
    """Section ``register`` of params.yaml; it is no stage's, because what it rules is shared and not cached."""
    sections = config.read(root / config.FILE)
    found = config.section(sections, "register", RegisterParams)
    assert isinstance(found, RegisterParams)
    return found


def _note(state: State) -> Path:
    return state.folder / "concluded.json"


def _promotion(done: Pass) -> int:
    """How manyth promotion this pass was; 0 when it was held."""
    return int(done.about.get("decision", {}).get("promotion", 0))
