"""Pipeline runs as the ledger and git hold them.

A run is identified by its key (flows.dvc.engine.key).  Its record holds the files KEPT and the metrics, and what no
output says: which stages were executed, from which commit, with which libraries, on what kind of machine.
The images and the weights are in DVC, under the hashes in dvc.lock.  If the MLflow database is lost, `stillroom sync`
writes it again from here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.base import config
from components.base.errors import UserError
from components.base.files import write_text
from components.pipeline import PIPELINE
from flows.dvc import engine, package, snapshot
from flows.history import built, decisions, ledger, legacy
from flows.history import git as calls
from flows.history.ledger import Record

INPUTS = (
    "params.yaml", "dvc.yaml", "dvc.lock", "data/source.json", "data/withdrawn.jsonl",
    "data/decisions.jsonl", "data/start.json",
)  # fmt: skip
"""Those of which a run is made again (flows/run/reproduce.py)."""
KEPT = (*INPUTS, "data/profile/profile.json")
"""What a record of a run holds beside the metrics."""
MADE = ("stages", "seconds", "libraries", "machine", "user")
"""What a run is recorded with; the rest of ``about`` comes from the decision on it."""
_BEGUN = "source.json"


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """One run of the pipeline; ``when`` is in seconds since 1970.

    ``about`` has "stages" (how each was brought up to date), "seconds" (how long those took that were executed),
    "libraries" and "machine" (what it was trained with, and on what kind), "user" (git's user.name), "decision",
    "version" (its number) and "against" (the key of the run that it was compared with), where known.
    """

    key: str
    files: dict[str, bytes]
    commit: str
    dirty: bool
    when: int
    about: dict[str, Any]

    @functools.cached_property
    def stages(self) -> dict[str, Any]:
        """The stages of its dvc.lock."""
        return engine.parse_lock(self.files["dvc.lock"].decode())

    @property
    def code(self) -> str:
        """Where its code is, in words: a commit, or a version of the package; and whether it is something else."""
        version = self.about.get("libraries", {}).get(package.NAME)
        if version:  # in a project
            return f"{package.NAME} {version}{', with changes' if self.dirty else ''}"
        return f"commit {self.commit}{', with changes that no commit holds' if self.dirty else ''}"

    @property
    def sections(self) -> Mapping[str, Any]:
        """The sections of its params.yaml, not to be changed."""
        return _sections(self.files["params.yaml"])

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """Every number that its stages returned, as ``stage/name``."""
        numbers: dict[str, float] = {}
        for stage in PIPELINE:
            text = self.files.get(stage.metrics)
            values = json.loads(text) if text else {}
            numbers |= {f"{stage.name}/{name}": value for name, value in values.items()}
        return numbers


@functools.lru_cache(maxsize=32)
def _sections(text: bytes) -> Mapping[str, Any]:
    """Kept, since a command looks at the parameters of a run many times and YAML takes long to parse."""
    return config.parse(text.decode())


def current(root: Path) -> PipelineRun | None:
    """The run whose outputs are in the working tree; None while a stage has not run yet."""
    stages = engine.lock(root)
    if any(stage.name not in stages for stage in PIPELINE):
        return None
    places = {path: snapshot.file(root, path) for path in _paths()}
    files = {path: place.read_bytes() for path, place in places.items() if place.is_file()}
    when = int((root / "dvc.lock").stat().st_mtime)
    source = _begun(root) or _source(root)
    run = PipelineRun(key=engine.key(stages), files=files, when=when, about={}, **source)
    if package.of_project(stages):  # its code is no matter of git
        return run
    # Git's word alone is not enough: a file may be ignored, or somebody committed while the run began.
    return replace(run, dirty=run.dirty or not run.commit or bool(missing_code(root, run)))


def missing_code(root: Path, run: PipelineRun) -> list[str]:
    """The files of code that made ``run``, by the hashes in its dvc.lock, and that its commit does not hold so."""
    wanted = {dep["path"]: dep.get("md5", "") for entry in run.stages.values() for dep in entry.get("deps", ())
              if dep["path"].startswith(f"{built.CODE[0]}/")}  # fmt: skip
    # "./": the checkout may be a folder of a larger repository.
    held = calls.contents(root, (f"{run.commit}:./{path}" for path in wanted))
    return [
        path
        for (path, digest), text in zip(wanted.items(), held, strict=True)
        if text is None or hashlib.md5(text, usedforsecurity=False).hexdigest() != digest
    ]


def unlike(root: Path, run: PipelineRun) -> str:
    """The first file, or section of params.yaml, that is not what the dvc.lock of ``run`` says; empty when all are.

    What is recorded has to be what the stages read and wrote, and people go on working meanwhile.
    """
    for entry in run.stages.values():
        sections = (entry.get("params") or {}).get(config.FILE) or {}
        for name, values in sections.items():
            if run.sections.get(name) != values:
                return f"{config.FILE}: {name}"
        for each in [*entry.get("deps", []), *entry.get("outs", [])]:
            path, digest = each["path"], each.get("md5", "")
            if digest and not digest.endswith(".dir") and _md5(run, snapshot.file(root, path), path) != digest:
                return str(path)
    return ""


def _md5(run: PipelineRun, place: Path, path: str) -> str:
    content = run.files[path] if path in run.files else place.read_bytes() if place.is_file() else b""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def begin(root: Path) -> None:
    """Note beside the snapshot that this process works from which commit its code is of: people go on committing."""
    held = config.snapshot(root)
    if held:
        write_text(held / _BEGUN, json.dumps(_source(root)) + "\n")


def _begun(root: Path) -> dict[str, Any] | None:
    held = config.snapshot(root)
    return json.loads((held / _BEGUN).read_text("utf-8")) if held and (held / _BEGUN).is_file() else None


def _source(root: Path) -> dict[str, Any]:
    """The commit of the code, and whether what lies here is something else.

    Of a project: the commit that was there, and whether the code is something else than the package's version says.
    """
    if package.is_project(root):
        return {"commit": calls.commit(root), "dirty": not built.clean()}
    # A file that git does not know yet is code as well: it may have made what is recorded.
    changed = calls.git(root, "status", "--porcelain", "--untracked-files=all", "--", *built.CODE)
    return {"commit": calls.commit(root), "dirty": bool(changed)}


def tip(root: Path) -> str:
    """A text that changes when a record is added; costs one call of git."""
    names = calls.git(root, "for-each-ref", "--format=%(objectname)", ledger.REFS, ledger.FETCHED, legacy.REF)
    return hashlib.sha256(names.encode()).hexdigest()


def records(root: Path) -> list[Record]:
    """Every record there is, oldest first."""
    return ledger.ordered([*legacy.records(root), *ledger.read(root)])


def record(root: Path, run: PipelineRun, known: Iterable[Record]) -> Record | None:
    """Put ``run`` on record; None, and nothing happens, when its last record says the same."""
    about = {name: value for name, value in run.about.items() if name != "decision"}
    body = {**about, "commit": run.commit, "dirty": run.dirty, "made": run.when, "files": sorted(run.files)}
    known = list(known)
    last = next((one for one in reversed(known) if one.kind == "run" and one.key == run.key), None)
    if last and last.body == body and next(ledger.files(root, [last])) == run.files:
        return None
    return ledger.append(root, known, "run", run.key, body, run.files)


def all_runs(root: Path, known: list[Record] | None = None) -> list[PipelineRun]:
    """Every pipeline run on record or in a commit of dvc.lock, oldest first, each key once.

    One with a version is as it was recorded when that was made, else as recorded last: the same inputs may give other
    bytes another time.  ``known`` are the records, where they have been read.
    """
    known = records(root) if known is None else known
    last = _runs(known)
    return [*(run for run in _of_commits(root) if run.key not in last), *_of_records(root, last.values(), known)]


def last_decided(root: Path) -> PipelineRun | None:
    """The run that the gate decided on last; None before the first."""
    known = records(root)
    last = _runs(known)
    every = (one for one in decisions.all_of(known) if one.counts and not one.backfilled)
    keys = [one.intent.key for one in every if one.intent.key in last]
    return _of_records(root, [last[keys[-1]]], known)[0] if keys else None


def _runs(known: Iterable[Record]) -> dict[str, Record]:
    """By key the record of each run: of one with a version the last before the first decision on those bytes."""
    known = list(known)
    made: dict[tuple[str, str | None], Record] = {}  # by key and manifest
    found: dict[str, Record] = {}
    for one in known:
        if one.kind == "run":
            found[one.key] = one
        elif one.kind == "intent" and one.key in found and one.body["manifest"]:
            made.setdefault((one.key, one.body["manifest"]), found[one.key])
    standing = decisions.standing(decisions.all_of(known))
    return {key: made.get((key, standing[key].intent.body["manifest"]), one) if key in standing else one
            for key, one in found.items()}  # fmt: skip


def _of_records(root: Path, runs: Iterable[Record], known: Iterable[Record]) -> list[PipelineRun]:
    """The runs of the records ``runs``, with their decisions among those that are ``known``."""
    runs, decided = list(runs), decisions.all_of(known)
    latest = decisions.latest(decided)
    numbers = {one.version: one.intent.key for one in decided}
    found = []
    for one, held in zip(runs, ledger.files(root, runs), strict=True):
        decision = latest.get(one.key)
        about = {name: value for name, value in one.body.items() if name in MADE}
        if decision:
            about["decision"] = decision.intent.body["decision"]
            about["version"] = decision.version
            about["against"] = numbers.get(decision.intent.body["expected"])
        found.append(PipelineRun(
            key=one.key, files=held, commit=one.body["commit"], dirty=one.body["dirty"],
            when=one.body.get("made", one.when), about=about,
        ))  # fmt: skip
    return found


def _of_commits(root: Path) -> list[PipelineRun]:
    """The complete runs in the commits that people made of dvc.lock on the present branch, oldest first."""
    if not calls.commit(root):
        return []
    rows = calls.git(root, "log", "--reverse", "--format=%H %ct", "HEAD", "--", "dvc.lock").split()
    commits = list(zip(rows[::2], map(int, rows[1::2]), strict=True))
    paths = _paths()
    # "./": the checkout may be a folder of a larger repository.
    texts = calls.contents(root, (f"{commit}:./{path}" for commit, _ in commits for path in paths))
    found: dict[str, PipelineRun] = {}
    for commit, when in commits:
        held = {path: text for path, text in zip(paths, texts, strict=False) if text is not None}
        run = PipelineRun(key="", files=held, commit=commit, dirty=False, when=when, about={})
        # What people commit may be damaged, by a merge for instance: then it is no run, and stops no command.
        with contextlib.suppress(UserError, ValueError, LookupError, TypeError, AttributeError):
            if run.stages and run.sections and run.metrics and _stages_of(held.get("dvc.yaml")) <= set(run.stages):
                key = engine.key(run.stages)
                found[key] = replace(run, key=key)
    return list(found.values())


def _paths() -> list[str]:
    return [*KEPT, *(stage.metrics for stage in PIPELINE)]


def _stages_of(table: bytes | None) -> set[str]:
    """The stages of the run's own dvc.yaml: it was complete with those, whatever was added to the pipeline since."""
    stages = config.parse(table.decode(), "dvc.yaml").get("stages") if table else None
    return set(stages) if stages else {stage.name for stage in PIPELINE}
