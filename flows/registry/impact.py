"""Which registered versions were trained on an image, told from what git and DVC remember of each pass."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.samples import pack
from flows.dvc import engine
from flows.history import store
from flows.history.store import Pass
from flows.registry import publish
from flows.workspace.paths import State


def lines(state: State, wanted: Iterable[str], near: Iterable[str]) -> list[str]:
    """A line for each pass that was trained on ``wanted`` or on their near-duplicates ``near``, or may have been."""
    exact, alike = set(wanted), set(near)
    told, versions = [], None
    keys: dict[tuple[str, str], set[str] | None] = {}
    for done in store.remembered(state.root):
        if not done.about.get("decision"):
            continue
        if versions is None:
            versions = _versions(state)
        name = versions.get(done.key, f"pass {done.key[:8]}")
        data = _hashes(done)
        if data not in keys:
            keys[data] = _trained_on(state.root, *data)
        found = keys[data]
        if found is None:
            told.append(f"{name}: unknown: state not in the cache (`dvc pull` brings it)")
        elif found & exact:
            more = f", and on {_near(found & alike)}" if found & alike else ""
            told.append(f"{name}: was trained on {len(found & exact):,} of them{more}")
        elif found & alike:
            told.append(f"{name}: was trained on {_near(found & alike)} of them")
    return told or ["no registered version was trained on them or on their near-duplicates"]


def _near(alike: set[str]) -> str:
    return f"{len(alike):,} near-duplicate{'' if len(alike) == 1 else 's'}"


def _hashes(done: Pass) -> tuple[str, str]:
    stages = done.stages
    return (engine.output(stages, "resize", "data/pixels"), engine.output(stages, "split", "data/splits"))


def _trained_on(root: Path, pixels: str, splits: str) -> set[str] | None:
    """The SHA-256 of every image that a state trained on; None when the cache does not hold the state."""
    held, rows = engine.cached(root, pixels), engine.cached(root, splits)
    if "keys.sha256" not in held or "train.i32" not in rows:
        return None
    blob = held["keys.sha256"].read_bytes()
    return {blob[32 * row : 32 * row + 32].hex() for row in pack.read_int32(rows["train.i32"])}


def _versions(state: State) -> dict[str, str]:
    """Name, number and aliases of each registered version, by the key of its pass; empty when the registry is lost."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return {}
    from flows.registry.mlflow import PASS, Tracker
    from flows.registry.versions import CHAMPION, Versions

    try:
        versions = Versions(Tracker(state, uri), publish.register_params(state.root).name)
        champion: Any = versions.champion()
        return {
            version.tags.get(PASS, ""): f"{versions.name} version {version.version}"
            + (f" ({CHAMPION})" if champion and version.version == champion.version else "")
            for version in versions.all()
        }
    except UserError:
        return {}
