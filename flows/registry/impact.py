"""Which registered versions were trained on an image, from what git and DVC hold of each pipeline run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.samples import pack
from flows.dvc import engine
from flows.history import store
from flows.history.store import PipelineRun
from flows.registry import publish
from flows.workspace.paths import State


def lines(state: State, wanted: Iterable[str], near: Iterable[str]) -> list[str]:
    """A line for each run that was, or may have been, trained on ``wanted`` or their near-duplicates ``near``."""
    exact, alike = set(wanted), set(near)
    shown, versions = [], None
    keys: dict[tuple[str, str], set[str] | None] = {}
    for run in store.all_runs(state.root):
        if not run.about.get("decision"):
            continue
        if versions is None:
            versions = _versions(state)
        name = versions.get(run.key, f"pipeline run {run.key[:8]}")
        data = _hashes(run)
        if data not in keys:
            keys[data] = _training_images(state.root, *data)
        found = keys[data]
        if found is None:
            shown.append(f"{name}: unknown: its data is not in DVC's cache (`dvc pull` fetches it)")
        elif found & exact:
            more = f", and on {_near(found & alike)}" if found & alike else ""
            shown.append(f"{name}: was trained on {len(found & exact):,} of them{more}")
        elif found & alike:
            shown.append(f"{name}: was trained on {_near(found & alike)} of them")
    return shown or ["no registered version was trained on them or on their near-duplicates"]


def _near(alike: set[str]) -> str:
    return f"{len(alike):,} near-duplicate{'' if len(alike) == 1 else 's'}"


def _hashes(run: PipelineRun) -> tuple[str, str]:
    stages = run.stages
    return (engine.output(stages, "resize", "data/pixels"), engine.output(stages, "split", "data/splits"))


def _training_images(root: Path, pixels: str, splits: str) -> set[str] | None:
    """The SHA-256 of every image that a state trained on; None when the cache does not hold the state."""
    held, rows = engine.cached(root, pixels), engine.cached(root, splits)
    if "keys.sha256" not in held or "train.i32" not in rows:
        return None
    blob = held["keys.sha256"].read_bytes()
    return {blob[32 * row : 32 * row + 32].hex() for row in pack.read_int32(rows["train.i32"])}


def _versions(state: State) -> dict[str, str]:
    """Name, number and alias of each version, by the key of its pipeline run; empty without a registry."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return {}
    from flows.registry.mlflow import RUN_KEY, Tracker
    from flows.registry.versions import CHAMPION, Versions

    try:
        versions = Versions(Tracker(state, uri), publish.register_params(state.root).name)
        champion: Any = versions.champion()
        return {
            version.tags.get(RUN_KEY, ""): f"{versions.name} version {version.version}"
            + (f" ({CHAMPION})" if champion and version.version == champion.version else "")
            for version in versions.all()
        }
    except UserError:
        return {}
