"""The history of pipeline runs: one git commit each on ``refs/stillroom/passes``, never on a branch.

A run is identified by its key (flows.dvc.engine.key). Its commit holds params.yaml, dvc.yaml, dvc.lock,
data/source.json, the data's profile and the metrics, and in ``pass/about.json`` what no output says: which stages
were executed, from which commit, and what the gate decided. The images and the weights are in DVC, under the hashes
in dvc.lock. If the MLflow database is lost, `stillroom sync` writes it again from here.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import config
from components.base.errors import UserError
from components.pipeline import PIPELINE, STATE
from flows.dvc import engine

REF = "refs/stillroom/passes"
KEPT = (
    "params.yaml", "dvc.yaml", "dvc.lock", "data/source.json", "data/withdrawn.jsonl", "data/start.json",
    "data/profile/profile.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """One run of the pipeline as git holds it; ``when`` is in seconds since 1970, ``about`` is pass/about.json."""

    key: str
    files: dict[str, bytes]
    commit: str
    dirty: bool
    when: int
    about: dict[str, Any]

    @property
    def stages(self) -> dict[str, Any]:
        """The stages of its dvc.lock."""
        return engine.parse_lock(self.files["dvc.lock"].decode())

    @property
    def metrics(self) -> dict[str, float]:
        """Every number that its stages returned, as ``stage/name``."""
        numbers: dict[str, float] = {}
        for stage in PIPELINE:
            text = self.files.get(stage.metrics)
            values = json.loads(text) if text else {}
            numbers |= {f"{stage.name}/{name}": value for name, value in values.items()}
        return numbers


def current(root: Path) -> PipelineRun | None:
    """The run whose outputs are in the working tree; None while a stage has not run yet."""
    stages = engine.lock(root)
    if any(stage.name not in stages for stage in PIPELINE):
        return None
    paths = [*KEPT, *(stage.metrics for stage in PIPELINE)]
    files = {path: (root / path).read_bytes() for path in paths if (root / path).is_file()}
    commit = git(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False).strip()
    dirty = bool(git(root, "status", "--porcelain", "--untracked-files=no", "--", "components", "flows"))
    when = int((root / "dvc.lock").stat().st_mtime)
    return PipelineRun(key=engine.key(stages), files=files, commit=commit, dirty=dirty, when=when, about={})


def record(root: Path, run: PipelineRun) -> None:
    """Commit ``run`` to the history; nothing happens when the last commit says the same."""
    files = dict(run.files)
    about = {**run.about, "key": run.key, "commit": run.commit, "dirty": run.dirty}
    files["pass/about.json"] = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    index = {"GIT_INDEX_FILE": str(root / STATE / "passes.index")}
    try:
        git(root, "read-tree", "--empty", extra=index)
        for path, content in sorted(files.items()):
            blob = git(root, "hash-object", "-w", "--stdin", stdin=content).strip()
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", extra=index)
        tree = git(root, "write-tree", extra=index).strip()
    finally:
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    last = git(root, "rev-parse", "--verify", "--quiet", REF, check=False).strip()
    if last and git(root, "rev-parse", f"{last}^{{tree}}").strip() == tree:
        return
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "stillroom"), ("EMAIL", "stillroom@localhost"))}  # fmt: skip
    parents = [part for parent in (last, run.commit) if parent for part in ("-p", parent)]
    message = f"pass {run.key[:12]}"
    commit = git(root, "commit-tree", tree, *parents, "-m", message, extra=who).strip()
    git(root, "update-ref", REF, commit, last or "0" * 40)


def all_runs(root: Path) -> list[PipelineRun]:
    """Every pipeline run in git, oldest first, each key once and as it was recorded last."""
    runs: dict[str, PipelineRun] = {}
    for found in _commits(root):
        earlier = runs.pop(found.key, None)
        # A commit on a branch does not hold the gate's decision; a recorded run does.
        runs[found.key] = earlier if earlier and earlier.about and not found.about else found
    return list(runs.values())


def last_decided(root: Path) -> PipelineRun | None:
    """The latest recorded run that the gate has decided on; None before the first."""
    if not git(root, "rev-parse", "--verify", "--quiet", REF, check=False).strip():
        return None
    for row in git(root, "log", "--format=%H %ct", REF, "--", "pass/about.json").splitlines():  # newest first
        commit, when = row.split()
        found = _read(root, commit, int(when))
        if found and "decision" in found.about:
            return found
    return None


def _commits(root: Path) -> Iterator[PipelineRun]:
    """The runs of commits that people made of dvc.lock, then those that `record` made; each oldest first."""
    for ref, path in (("HEAD", "dvc.lock"), (REF, "pass/about.json")):
        if not git(root, "rev-parse", "--verify", "--quiet", ref, check=False).strip():
            continue
        for row in git(root, "log", "--reverse", "--format=%H %ct", ref, "--", path).splitlines():
            commit, when = row.split()
            found = _read(root, commit, int(when))
            if found:
                yield found


def _read(root: Path, commit: str, when: int) -> PipelineRun | None:
    paths = [*KEPT, *(stage.metrics for stage in PIPELINE), "pass/about.json"]
    files = {}
    for path in paths:
        blob = _blob(root, commit, path)
        if blob is not None:
            files[path] = blob
    if "dvc.lock" not in files:
        return None
    stages = engine.parse_lock(files["dvc.lock"].decode())
    if not _stages_of(files.get("dvc.yaml")) <= set(stages):
        return None
    about = json.loads(files.pop("pass/about.json", b"{}"))
    return PipelineRun(key=engine.key(stages), files=files, commit=about.get("commit", commit),
                dirty=about.get("dirty", False), when=when, about=about)  # fmt: skip


def _stages_of(table: bytes | None) -> set[str]:
    """The stages of the run's own dvc.yaml: it was complete with those, whatever was added to the pipeline since."""
    stages = config.parse(table.decode(), "dvc.yaml").get("stages") if table else None
    return set(stages) if stages else {stage.name for stage in PIPELINE}


def _blob(root: Path, commit: str, path: str) -> bytes | None:
    done = subprocess.run(["git", "cat-file", "blob", f"{commit}:{path}"], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def git(
    root: Path,
    *arguments: str,
    stdin: bytes | None = None,
    extra: dict[str, str] | None = None,
    check: bool = True,
) -> str:
    """What ``git arguments`` prints; UserError with git's own line when it fails and ``check`` is on."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, input=stdin, capture_output=True, env={**os.environ, **(extra or {})},
        check=False,
    )  # fmt: skip
    if check and done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
    return done.stdout.decode(errors="replace")
