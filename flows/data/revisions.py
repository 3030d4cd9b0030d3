"""Which state of the data a word means: ``now``, ``last``, a pipeline run, a registered version or a git commit."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from flows.dvc import engine
from flows.history import git, ledger, store
from flows.workspace.paths import State

OUTPUTS = {"raw": ("collect", "data/raw"), "clean": ("clean", "data/clean"), "pixels": ("resize", "data/pixels"),
           "splits": ("split", "data/splits")}  # fmt: skip
"""The data states: what a snapshot calls them, who writes them, where."""
WAYS = "`now`, `last`, a pipeline run (8 or more digits of its key), `v3`, `models:/NAME/3`, or a commit, branch or tag"


@dataclass(frozen=True)
class Revision:
    """A state of the data: ``name`` is for people, ``stages`` is its dvc.lock; None for the working tree.

    ``code`` says where its code is and ``when`` it was made, in seconds since 1970 (0 where that is not known).
    """

    name: str
    stages: dict[str, Any] | None
    code: str = ""
    when: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The folders of one state of the data; they may be links into DVC's cache: read, never written."""

    raw: Path
    clean: Path
    pixels: Path
    splits: Path


def resolve(state: State, word: str) -> Revision:
    """What ``word`` means; UserError when it names no state."""
    root = state.root
    if word == "now":
        return Revision("now (the working tree)", None, *_head(root))
    if word == "last":
        run = store.last_decided(root)
        if run is None:
            raise UserError("last: no pipeline run has been published in this checkout yet: run `stillroom run`")
        return _of_run(f"last pipeline run {run.key[:8]}", run)
    if re.fullmatch(r"v\d+|models:/.+", word):
        return _version(state, word)
    if re.fullmatch(r"[0-9a-f]{8,64}", word):
        found = {run.key: run for run in store.all_runs(root) if run.key.startswith(word)}
        if len(found) > 1:
            raise UserError(f"{word}: {len(found)} pipeline runs begin like that: give more digits")
        for key, run in found.items():
            return _of_run(f"pipeline run {key[:8]}", run)
    return _commit(root, word)


def origin(state: State, revision: Revision) -> list[tuple[str, str]]:
    """Where ``revision`` comes from, as (what, value): its code, its date and DVC's hash of each data folder."""
    stages = engine.lock(state.root) if revision.stages is None else revision.stages
    made = datetime.fromtimestamp(revision.when, UTC).strftime("%Y-%m-%d %H:%M UTC") if revision.when else "unknown"
    hashes = [(path, engine.output(stages, stage, path).removesuffix(".dir") or "none")
              for stage, path in OUTPUTS.values()]  # fmt: skip
    return [("Code", revision.code or "unknown"), ("Date", made), *hashes]


def _of_run(name: str, run: store.PipelineRun) -> Revision:
    return Revision(name, run.stages, run.code, run.when)


def _head(root: Path, commit: str = "") -> tuple[str, int]:
    """The words for a commit, HEAD by default, and when it was made; "" and 0 where there is none."""
    commit = commit or git.commit(root)
    if not commit:
        return "", 0
    return f"commit {commit}", int(git.git(root, "show", "--no-patch", "--format=%ct", commit))


@contextlib.contextmanager
def opened(state: State, revision: Revision) -> Iterator[Snapshot]:
    """The folders of ``revision`` while the body runs; UserError naming `dvc pull` when the cache lacks a file."""
    if revision.stages is None:
        folders = {name: state.root / path for name, (_, path) in OUTPUTS.items()}
        for name, folder in folders.items():
            if not folder.is_dir():
                stage = OUTPUTS[name][0]
                raise UserError(f"{OUTPUTS[name][1]}: not found: run stage '{stage}' (`stillroom data report`), "
                                "or `dvc pull`")  # fmt: skip
        yield Snapshot(**folders)
        return
    with tempfile.TemporaryDirectory(dir=state.folder, prefix="revision-") as name:
        for part, (stage, path) in OUTPUTS.items():
            held = engine.cached(state.root, engine.output(revision.stages, stage, path))
            if not held:
                raise UserError(f"{revision.name}: DVC's cache does not hold its {path}: `dvc pull` there, or `git "
                                "checkout` that state and run `dvc pull`")  # fmt: skip
            for relative, object_ in held.items():
                link = Path(name, part, relative)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(object_)
        yield Snapshot(**{part: Path(name, part) for part in OUTPUTS})


def _version(state: State, word: str) -> Revision:
    from flows.registry import publish, reference
    from flows.registry.mlflow import RUN_KEY, Tracker
    from flows.registry.versions import Versions

    name, where = publish.register_params(state.root).name, f"/{word[1:]}"
    if word.startswith("models:/"):
        found = reference.parse(word)
        if not found:
            raise UserError(f"{word}: wanted models:/NAME/NUMBER or models:/NAME@ALIAS")
        name, where = found
    version = Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), name).resolve(where)
    key = version.tags.get(RUN_KEY, "")
    run = next((one for one in store.all_runs(state.root) if one.key == key), None)
    if run is None:
        raise UserError(f"{word}: pipeline run {key[:8]}, which made it, is not in this checkout: "
                        f"{ledger.FETCH_COMMAND}")  # fmt: skip
    return _of_run(f"{name} version {version.version}", run)


def _commit(root: Path, word: str) -> Revision:
    commit = git.commit(root, word)
    if not commit:
        raise UserError(f"{word}: no such state of the data; wanted {WAYS}")
    (text,) = git.contents(root, [f"{commit}:./dvc.lock"])
    stages = engine.parse_lock(text.decode()) if text else {}
    if not all(stage in stages for stage, _ in OUTPUTS.values()):
        raise UserError(f"{word}: commit {commit[:8]} has no dvc.lock with every data stage: name one made after "
                        "a pipeline run, or `last`")  # fmt: skip
    return Revision(f"{word} (commit {commit[:8]})", stages, *_head(root, commit))
