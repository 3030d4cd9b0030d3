"""Registered model versions and the alias `champion`: what was promoted, against which version, and why."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.errors import UserError
from components.register.gate import Decision, decide
from components.register.params import RegisterParams
from components.samples import pack
from flows.dvc import engine
from flows.history.store import PipelineRun
from flows.registry import bundle
from flows.registry.mlflow import MANIFEST_TAG, MODEL_PATH, RUN_KEY, Tracker, explained

CHAMPION = "champion"
DECISION, REASON = "stillroom.decision", "stillroom.reason"


class Versions:
    """The versions of one registered model."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self.tracker, self.name, self.client = tracker, name, tracker.client

    def champion(self) -> Any | None:
        """The version that alias ``champion`` points to, or None."""
        return self.tracker.version(self.name, f"@{CHAMPION}")

    def of(self, run: PipelineRun) -> Any | None:
        """The version made by ``run``, or None."""
        return next((found for found in self.all() if found.tags.get(RUN_KEY) == run.key), None)

    def all(self) -> list[Any]:
        """Every version, oldest first."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def add(self, run: PipelineRun, run_id: str) -> Any | None:
        """The version of ``run``, made from the DVC cache if need be; None when the cache has lost its files."""
        found = self.of(run)
        if found:
            return found
        root, stages = self.tracker.state.root, run.stages
        model = engine.cached(root, engine.output(stages, "train", "models/candidate"))
        evaluation = engine.cached(root, engine.output(stages, "evaluate", "models/evaluation"))
        if not model or not evaluation:
            return None
        with tempfile.TemporaryDirectory(dir=self.tracker.state.folder) as name:
            folder = Path(name) / MODEL_PATH
            digest = bundle.build(folder, run=run, model=model, evaluation=evaluation)
            self.tracker.upload(run_id, folder, MODEL_PATH)
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self.client.create_registered_model(self.name)
        uri = f"{self.client.get_run(run_id).info.artifact_uri}/{MODEL_PATH}"
        tags = {
            RUN_KEY: run.key,
            MANIFEST_TAG: digest,
            "stillroom.git_commit": run.commit,
            "stillroom.params": bundle.params_hash(run),
            "stillroom.data": engine.output(stages, "split", "data/splits"),
        }
        return self.client.create_model_version(self.name, uri, run_id, tags=tags)

    def conclude(self, version: Any, decision: dict[str, Any]) -> None:
        """Write ``decision`` on the version and its run."""
        number = version.version
        verdict = "promoted" if decision["promote"] else "held"
        self.client.set_model_version_tag(self.name, number, DECISION, verdict)
        self.client.set_model_version_tag(self.name, number, REASON, decision["reason"][:4000])
        with tempfile.TemporaryDirectory(dir=self.tracker.state.folder) as name:
            folder = Path(name)
            files.write_text(folder / "decision.json", json.dumps(decision, indent=1, sort_keys=True) + "\n")
            self.tracker.upload(version.run_id, folder, "")

    def promote(self, version: Any) -> None:
        """Move alias ``champion`` to ``version``."""
        self.client.set_registered_model_alias(self.name, CHAMPION, version.version)

    def decide(self, version: Any, params: RegisterParams) -> dict[str, Any]:
        """The gate's decision on ``version`` against the present champion, as plain data."""
        champion = self.champion()
        with self.folder(version) as candidate:
            if champion is None or int(champion.version) == int(version.version):
                decision = decide(_scores(candidate), None, params)
            else:
                with self.folder(champion) as other:
                    decision = self._against(candidate, other, params)
        against = f"{self.name} version {champion.version}" if champion else None
        return {"against": against, **_plain(decision)}

    def _against(self, candidate: Path, champion: Path, params: RegisterParams) -> Decision:
        """The decision after scoring both on the same held-out images of the candidate's data with the same noise."""
        from components.evaluate import stage
        from components.evaluate.params import EvaluateParams

        root = self.tracker.state.root
        rows = pack.read_split(root / "data/splits", "test")
        seed = config.section(config.read(root / config.FILE), "evaluate", EvaluateParams).seed
        both = []
        for folder in (candidate, champion):
            try:
                errors = stage.x0_errors(folder, root / "data/pixels", rows, seed=seed, quiet=True)
            except UserError as error:
                return Decision(False, f"Not promoted: {error}; `stillroom promote` moves the alias by hand.", {})
            both.append({**_scores(folder), "errors": errors.tolist()})
        return decide(both[0], both[1], params)

    @contextlib.contextmanager
    def folder(self, version: Any) -> Iterator[Path]:
        """The files of ``version``, compared with their manifest, while the body runs."""
        with self.tracker.pulled(version.source) as folder:
            bundle.verify(folder)
            yield folder

    def resolve(self, reference: str) -> Any:
        """The version that ``@alias`` or ``/number`` after ``models:/name`` names; UserError when there is none."""
        with explained(self.tracker.uri):
            found = self.tracker.version(self.name, reference)
            if found:
                return found
            known = [f"/{version.version}" for version in self.all()]
        held = f"it has {', '.join(known)}" if known else "nothing is registered under that name"
        raise UserError(f"models:/{self.name}{reference}: no such version in {self.tracker.uri}; {held}")


def _scores(folder: Path) -> dict[str, Any]:
    return files.read_json_object(folder / "scores.json", "evaluate and register this version again")


def _plain(decision: Decision) -> dict[str, Any]:
    return {"promote": decision.promote, "reason": decision.reason, "evidence": decision.evidence}
