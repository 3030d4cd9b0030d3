"""Which registered versions were trained on an image, from what git and DVC hold of each pipeline run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from components.samples import pack
from flows.dvc import engine
from flows.history import decisions, ledger, store
from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import bundle
from flows.workspace.paths import State

KEYS, TRAINED = "keys.sha256", "train.i32"
"""Of the pack the hash of each row's image, and of the split the rows that were trained on: all that is read here."""


def lines(state: State, wanted: Iterable[str], near: Iterable[str]) -> list[str]:
    """A line for each run that was, or may have been, trained on ``wanted`` or their near-duplicates ``near``.

    A run that started from another's network (`stillroom start`) is one of them when the other is.
    """
    exact, alike = set(wanted), set(near)
    known = store.records(state.root)
    names = _names(known)
    runs = [run for run in store.all_runs(state.root, known) if run.about.get("decision")]
    begun_by = started(state.root, runs, known)
    keys: dict[tuple[str, str], set[str] | None] = {}
    shown: dict[str, str] = {}
    for run in runs:  # oldest first: a run is listed after the one that it started from
        data = _hashes(run)
        if data not in keys:
            keys[data] = _training_images(state.root, *data)
        what = [_trained(keys[data], exact, alike)]
        origin = begun_by.get(run.key)
        if origin in shown:
            what.append(f"started from the network of {names[origin]}, which {shown[origin]}")
        elif origin == "":
            what.append("started from a network whose training images are not on record")
        if any(what):
            shown[run.key] = "; ".join(filter(None, what))
    return [f"{names[key]}: {what}" for key, what in shown.items()] or [
        "no registered version was trained on them or on their near-duplicates"
    ]


def _trained(found: set[str] | None, exact: set[str], alike: set[str]) -> str:
    if found is None:
        return "unknown: its data is not in DVC's cache (`dvc pull` fetches it)"
    if found & exact:
        more = f", and on {_near(found & alike)}" if found & alike else ""
        return f"was trained on {len(found & exact):,} of them{more}"
    return f"was trained on {_near(found & alike)} of them" if found & alike else ""


def _names(known: list[Record]) -> dict[str, str]:
    """What to call each run: the name, number and alias of its version."""
    decided = decisions.all_of(known)
    leader = decisions.champion(decided)
    names = {one.key: f"pipeline run {one.key[:8]}" for one in known}
    for one in decisions.latest(decided).values():
        if one.version is not None:
            champion = leader is not None and leader.intent.key == one.intent.key
            mark = " (deleted)" if one.deleted else " (champion)" if champion else ""
            names[one.intent.key] = f"{one.intent.body['name']} version {one.version}{mark}"
    return names


def started(root: Path, runs: Iterable[PipelineRun], known: Iterable[Record]) -> dict[str, str]:
    """For each run that started from a network, the key of the run that made it; empty when none of ``known`` did."""
    made: dict[str, str] = {}
    intents = [one for one in known if one.kind == "intent"]
    for intent, held in zip(intents, ledger.files(root, intents), strict=True):
        listed = json.loads(held.get(bundle.MANIFEST, b"{}")).get("files", {})
        for entry in listed.values():
            made.setdefault(entry["sha256"], intent.key)  # two runs may have made the same weights: the first counts
    found = {}
    for run in runs:
        begun = json.loads(run.files.get("data/start.json", b"null"))
        if begun:
            weights = [digest for name, digest in begun["files"].items() if name.endswith(".safetensors")]
            found[run.key] = next((made[digest] for digest in weights if made.get(digest, run.key) != run.key), "")
    return found


def _near(alike: set[str]) -> str:
    return f"{len(alike):,} near-duplicate{'' if len(alike) == 1 else 's'}"


def _hashes(run: PipelineRun) -> tuple[str, str]:
    stages = run.stages
    return (engine.output(stages, "resize", "data/pixels"), engine.output(stages, "split", "data/splits"))


def _training_images(root: Path, pixels: str, splits: str) -> set[str] | None:
    """The SHA-256 of every image that a state trained on; None when the cache does not hold the state."""
    held, rows = engine.cached(root, pixels, {KEYS}), engine.cached(root, splits, {TRAINED})
    if KEYS not in held or TRAINED not in rows:
        return None
    blob = held[KEYS].read_bytes()
    return {blob[32 * row : 32 * row + 32].hex() for row in pack.read_int32(rows[TRAINED])}
