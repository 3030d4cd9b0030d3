"""`stillroom reproduce`: make a registered version again in a clean worktree, and compare it with what is on record.

Nothing is registered, and the checkout stays as it is: the worktree lies beside it with a DVC cache of its own.  The
images come from the checkout's DVC cache, since sources change; the stages after `collect` run as in a pipeline run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.base.events import clock
from components.pipeline import Stage
from flows.dvc import engine, snapshot
from flows.history import store
from flows.history.store import PipelineRun
from flows.registry import again, bundle, records
from flows.registry.mlflow import RUN_KEY, explained
from flows.run import worktree
from flows.workspace import exits
from flows.workspace.events import following
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

_SCORES = ("evaluate", "models/evaluation", "scores.json")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be made again: ``inputs`` are objects of DVC's cache by path and name, ``scores`` scores.json."""

    label: str
    run: PipelineRun
    stages: list[str]
    inputs: Mapping[str, Mapping[str, Path]]
    scores: Mapping[str, Any]
    others: list[str]
    took: Mapping[str, float]

    @property
    def alike(self) -> bool:
        """Whether the bytes must be the same: the same libraries on the same kind of machine as on record."""
        return not self.others and self.run.about.get("machine") == bundle.machine()


def reproduce(
    state: State, model: str | None, *, only: Sequence[str] = (), keep: Path | None = None, dry_run: bool = False
) -> int:
    """Make the version ``model`` again and print by stage whether it is the same; 1 when it is not.

    With ``only``, just these stages, from what the others made then.
    """
    if keep and (not keep.parent.is_dir() or (keep.exists() and (not keep.is_dir() or any(keep.iterdir())))):
        raise UserError(f"{keep}: wanted a new or empty folder in one that exists: give another --keep")
    plan = _plan(state, model, only)
    for line in _kinds(plan):
        exits.note(line)
    if dry_run:
        print("\n".join(_described(plan)))
        return 0
    with stoppable(), worktree.of(state.root, plan.run.commit, keep) as place, worktree.apart(place):
        _fill(place, plan)
        stages = _made(place, plan)
        unlike = {name: again.unlike(state.root, plan.run.stages, place, stages, name) for name in plan.stages}
        made = engine.cached(place, engine.output(stages, *_SCORES[:2])) if _SCORES[0] in plan.stages else {}
        text = made[_SCORES[2]].read_text("utf-8") if made else ""
        found = again.scores(plan.scores, json.loads(text)) if text else []
    return _verdict(plan, unlike, found)


def _plan(state: State, model: str | None, only: Sequence[str]) -> Plan:
    """UserError where the version cannot be made again, with what is missing."""
    with explained(os.environ["MLFLOW_TRACKING_URI"]):
        versions, reference = records.named(state, model)
        version = versions.resolve(reference)
        label = f"{versions.name} version {version.version}"
        with versions.folder(version) as folder:
            scores = files.read_json_object(folder / _SCORES[2], "`stillroom sync` writes it again")
    run = versions.history.run(version.tags.get(RUN_KEY))
    if run is None:
        raise UserError(f"{label}: the run that made it is not on record here: fetch its ledger")
    try:
        lost = again.missing_code(state.root, run)
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise UserError(f"its code is not on record: commit {run.commit[:12]} does not hold {', '.join(lost[:3])}"
                            f"{more} as it was: commit the code and run `stillroom run --force train`")  # fmt: skip
        names = again.stages(run, only)
        taken = again.inputs(state.root, run, names)
        start = again.network(state.root, run) if "train" in names else {}
        return Plan(
            label=label, run=run, stages=names, inputs={**taken, **({"data/start": start} if start else {})},
            scores=scores, took=again.took(versions.history.runs, run),
            others=again.others(run.about.get("libraries", {}), bundle.libraries(state.root)),
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"{label} cannot be made again: {error}") from None


def _kinds(plan: Plan) -> Iterator[str]:
    """What is not as it was when the version was made."""
    if plan.run.dirty:
        yield f"{plan.label}: made with changes that no commit holds, but in no file that its stages import"
    if plan.others:
        yield f"other libraries than it was made with: {', '.join(plan.others)}"
    machine = plan.run.about.get("machine")
    if machine != bundle.machine():
        yield f"made on {machine or 'a machine that is not on record'}; this is {bundle.machine()}"


def _described(plan: Plan) -> Iterator[str]:
    """What would be done, in a few lines."""
    yield f"{plan.label}, made by pipeline run {plan.run.key[:8]} from commit {plan.run.commit[:12]}"
    for path, held in plan.inputs.items():
        size = sum(each.stat().st_size for each in held.values())
        yield f"would take {path} from DVC's cache: {len(held)} files, {size:,} bytes, each with its hash"
    known = [plan.took[name] for name in plan.stages if name in plan.took]
    first = f"{clock(sum(known))} the first time" if known else "how long the first time is not on record"
    unknown = [name for name in plan.stages if name not in plan.took] if known else []
    first += f" without {', '.join(unknown)}, not on record" if unknown else ""
    yield f"would run {', '.join(plan.stages)} ({first})"
    yield ("would compare every byte" if plan.alike
           else "would compare every byte, and the scores where one differs")  # fmt: skip


def _fill(place: Path, plan: Plan) -> None:
    """Put into the worktree what the run was made from: parameters, the images, the network that it started from."""
    for path in store.INPUTS:
        if path in plan.run.files:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(plan.run.files[path])
    local = place / ".dvc/config.local"
    local.parent.mkdir(exist_ok=True)
    local.write_text("[cache]\n    dir = cache\n")  # its own, whatever the checkout shares with others
    for path, held in plan.inputs.items():
        for name, source in held.items():
            (place / path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place / path / name)


def _made(place: Path, plan: Plan) -> dict[str, Any]:
    """The stages of dvc.lock after each stage has run once more."""
    state, log = State(place), logging.getLogger(__name__)
    with snapshot.taken(place):
        for name in plan.stages:
            began = time.monotonic()
            stage = Stage(name=name, reads={}, writes={})  # of that commit: today's table need not have it
            with following(state.events, name, log=log, metrics=lambda *_: None):
                engine.reproduce(place, stage, watched=state.events, force=True)
            exits.note(f"{name:>9}  executed, {clock(time.monotonic() - began)}")
    return engine.lock(place)


def _verdict(plan: Plan, unlike: Mapping[str, list[str]], scores: list[again.Score]) -> int:
    """Print the table by stage; 0 when the version is the same."""
    for path, held in plan.inputs.items():
        print(f"{'taken':>9}  {path} from DVC's cache, {len(held)} files, each with its hash")
    for name, paths in unlike.items():
        more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
        print(f"{name:>9}  {'NOT the same: ' + ', '.join(paths[:4]) + more if paths else 'the same bytes'}")
    first = next((name for name, paths in unlike.items() if paths), None)
    if first is None:
        print(f"{plan.label}: {', '.join(plan.stages)} made again, the same to the byte")
        return 0
    for score in scores:
        print(f"{'score':>9}  {score}")
    if plan.alike:
        print(f"{plan.label}: NOT made again: stage {first} gives other bytes, with the same libraries on the same "
              "kind of machine")  # fmt: skip
        return 1
    outside = [score.name for score in scores if not score.inside]
    if outside or not scores:
        why = f"outside of its interval: {', '.join(outside)}" if outside else "no score to compare"
        print(f"{plan.label}: NOT made again: other bytes from stage {first} on, and {why}")
        return 1
    print(f"{plan.label}: made again: other bytes from stage {first} on, every score inside its interval")
    return 0
