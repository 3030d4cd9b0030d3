"""Whether a version that was made again is the same: what its code was, its bytes, its scores.

The same code, parameters and images give the same bytes with the same libraries on the same kind of machine.  On
another kind the scores have to lie inside the intervals that the version was registered with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.errors import UserError, nearest
from components.pipeline import PIPELINE
from flows.dvc import engine, package
from flows.history import built, git, store
from flows.history.store import PipelineRun
from flows.registry import chain

_SOURCES = {stage.name for stage in PIPELINE if stage.grows}
"""What these wrote is taken from DVC's cache: it grew over many runs, from sources that have changed since."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score as it came out ``now``, and the value and the interval on record."""

    name: str
    now: float
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether it lies in the interval on record."""
        return self.low <= self.now <= self.high

    def __str__(self) -> str:
        where = "inside" if self.inside else "outside"
        return f"{self.name} {self.now:.4g}, {where} of {self.low:.4g} to {self.high:.4g} (was {self.value:.4g})"


def stages(run: PipelineRun, only: Iterable[str] = ()) -> list[str]:
    """The stages to run again, in the order of the run's own dvc.yaml: ``only`` those, or all that can be."""
    table = config.parse(run.files["dvc.yaml"].decode(), "dvc.yaml").get("stages") or {}
    able = [name for name in table if name not in _SOURCES]
    for name in only:
        if name not in able:
            why = "takes what is in its sources now" if name in _SOURCES else f"not a stage of it{nearest(name, able)}"
            raise UserError(f"stage '{name}': {why}: wanted some of {', '.join(able)}")
    return [name for name in able if name in set(only)] or able


def missing_code(root: Path, run: PipelineRun) -> list[str]:
    """The files of code that made ``run``, and that its commit does not hold as they were; UserError without one."""
    if not run.commit or not git.commit(root, run.commit):
        raise UserError(f"commit {run.commit or '(none on record)'} is not in this repository: fetch the branch it "
                        "lies on")  # fmt: skip
    other = package.unlike(run.stages)
    if other:
        made = run.about.get("libraries", {}).get(package.NAME, "another version")
        raise UserError(f"it was made by {package.NAME} {made}, and {built.version()}, installed here, has other "
                        f"code for {', '.join(other)}: install that one in an environment of its own")  # fmt: skip
    return store.missing_code(root, run)


def inputs(root: Path, run: PipelineRun, names: Iterable[str]) -> dict[str, dict[str, Path]]:
    """By path, the objects in DVC's cache of what the stages ``names`` read and none of them makes, such as data/raw.

    UserError where one is missing or damaged.
    """
    wanted, made = list(names), set[str]()
    for name in wanted:
        made |= {out["path"] for out in run.stages[name].get("outs", ())}
    written = {out["path"] for entry in run.stages.values() for out in entry.get("outs", ())} - made
    read = {dep["path"]: dep.get("md5", "") for name in wanted for dep in run.stages[name].get("deps", ())
            if dep["path"] in written}  # fmt: skip
    return {path: _whole(root, path, digest) for path, digest in read.items()}


def network(root: Path, run: PipelineRun) -> dict[str, Path]:
    """The same of the network that its training started from; none where it started from nothing."""
    noted = json.loads(run.files.get("data/start.json", b"null"))
    if not noted:
        return {}
    wanted = {name: entry["sha256"] for name, entry in noted["files"].items()}
    (held,) = git.contents(root, [f"{run.commit}:./data/start.dvc"])
    here = root / "data/start.dvc"
    for page in (held, here.read_bytes() if here.is_file() else None):
        digest = config.parse(page.decode(), "data/start.dvc")["outs"][0]["md5"] if page else ""
        found = engine.cached(root, digest)
        if found and {name: files.sha256(path) for name, path in found.items()} == wanted:
            return found
    raise UserError(f"the network that training started from, {noted['model']}, is not in DVC's cache: `dvc pull` "
                    f"fetches it, `stillroom start {noted['model']}` takes it from the registry")  # fmt: skip


def _whole(root: Path, path: str, digest: str) -> dict[str, Path]:
    held = engine.cached(root, digest)
    if not held:
        raise UserError(f"{path} of that run is not whole in DVC's cache: `dvc pull` fetches it")
    damaged = chain.damaged(root, digest, held)
    if damaged:
        raise UserError(f"{damaged}: damaged, and {path} is made of it: remove it and `dvc pull`")
    return held


def others(recorded: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """The libraries that are not installed in the version on record, each in a few words."""
    return [f"{name} {installed.get(name, 'is not installed')} (was {version})"
            for name, version in sorted(recorded.items()) if installed.get(name) != version]  # fmt: skip


def unlike(root: Path, before: Mapping[str, Any], place: Path, now: Mapping[str, Any], stage: str) -> list[str]:
    """The files of ``stage`` whose bytes are not those on record; ``before`` and ``now`` are the stages of dvc.lock.

    An output whose files the checkout ``root`` no longer has, or that has none, is named as a whole.
    """
    found = []
    for out in before[stage].get("outs", ()):
        path, digest = out["path"], engine.output(now, stage, out["path"])
        if digest == out.get("md5"):
            continue
        old, new = _hashes(engine.cached(root, out.get("md5", ""))), _hashes(engine.cached(place, digest))
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)) if old else []
        found += [f"{path}/{name}" if name else path for name in names] or [path]
    return found


def _hashes(held: Mapping[str, Path]) -> dict[str, str]:
    return {name: path.parent.name + path.name for name, path in held.items()}


def scores(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[Score]:
    """Every score on record that has an interval, as it came out ``now``; both are what scores.json holds.

    One that did not come out at all is not a number, and so not inside.
    """
    found, new = [], now.get("scores", {})
    for name, one in recorded.get("scores", {}).items():
        if isinstance(one, Mapping) and {"value", "low", "high"} <= one.keys():
            value = float(new.get(name, {}).get("value", "nan"))
            found.append(Score(name=name, now=value, value=one["value"], low=one["low"], high=one["high"]))
    return found


def took(runs: Iterable[PipelineRun], run: PipelineRun) -> dict[str, float]:
    """Seconds that each stage of ``run`` took when it was executed, be it for an earlier run; where on record."""
    found: dict[str, float] = {}
    mine = run.stages
    for one in runs:
        held = one.stages if one.about.get("seconds") else {}
        for name, seconds in (one.about.get("seconds") or {}).items():
            if name in mine and held.get(name) == mine[name]:
                found.setdefault(name, seconds)
    return found
