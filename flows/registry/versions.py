"""Registered model versions and the alias `champion`: what was promoted, against which version, and why."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.register import evidence
from components.register.gate import Decision, decide
from components.register.params import RegisterParams
from components.samples import pack
from consume.pull import SIGNATURE
from flows.dvc import engine
from flows.history import decisions
from flows.history.decisions import Decided
from flows.history.known import History
from flows.history.store import PipelineRun
from flows.registry import bundle, changes
from flows.registry.mlflow import MANIFEST_TAG, MODEL_PATH, RUN_KEY, Tracker, explained
from flows.registry.sign import Signer

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DECISION, REASON = "stillroom.decision", "stillroom.reason"
LED = "stillroom.champion"
"""On the registered model: the record by which Stillroom set alias `champion` last. Who moves it by hand leaves it."""


class Versions:
    """The versions of one registered model."""

    def __init__(self, tracker: Tracker, name: str, history: History | None = None) -> None:
        self.tracker, self.name, self.client = tracker, name, tracker.client
        self.history = history or History(tracker.state.root)
        self.signer: Signer | None = None

    @property
    def decided(self) -> list[Decided]:
        """The decisions on record about them, in the order in which they ended."""
        return self.history.decided(self.name)

    def champion(self) -> Any | None:
        """The version that alias ``champion`` points to, or None."""
        return self.tracker.version(self.name, f"@{CHAMPION}")

    def of(self, key: str) -> Any | None:
        """The version made by the pipeline run ``key``, or None; the first where two machines made one at once."""
        found = self.client.search_model_versions(f"name = '{self.name}' and tags.`{RUN_KEY}` = '{key}'")
        return min(found, key=lambda version: int(version.version), default=None)

    def numbered(self, number: int) -> Any | None:
        """Version ``number``, or None."""
        return self.tracker.version(self.name, f"/{number}")

    def all(self) -> list[Any]:
        """Every version, oldest first."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def add(self, run: PipelineRun, run_id: str) -> Any:
        """The version of ``run``, made from the DVC cache if need be; UserError when the cache has lost its files."""
        found = self.of(run.key)
        if found:
            return found
        manifest = self.upload(run, run_id)
        if manifest is None:
            raise UserError(
                "the DVC cache has lost files of this run: run `dvc pull`, or `stillroom run --force train`"
            )
        made = self.create(run, run_id, bundle.digest(manifest))
        first = self.of(run.key)
        if first is not None and int(first.version) < int(made.version):  # another machine was quicker
            self.client.delete_model_version(self.name, made.version)
            return first
        return made

    def upload(self, run: PipelineRun, run_id: str, recorded: bytes | None = None) -> bytes | None:
        """Put the files of ``run``'s version into its MLflow run and return their manifest.

        They are taken from DVC's cache: None when it does not hold them.  With ``recorded``, the manifest they had,
        UserError when they are not what they were.
        """
        root, stages = self.tracker.state.root, run.stages
        model = engine.cached(root, engine.output(stages, "train", "models/candidate"))
        evaluation = engine.cached(root, engine.output(stages, "evaluate", "models/evaluation"),
                                   only=bundle.OF_EVALUATION)  # fmt: skip
        if not model or not evaluation:
            return None
        with tempfile.TemporaryDirectory(dir=self.tracker.state.folder) as name:
            folder = Path(name) / MODEL_PATH
            manifest = bundle.build(folder, run=run, model=model, evaluation=evaluation, recorded=recorded)
            self.tracker.upload(run_id, folder, MODEL_PATH)
        return manifest

    def create(self, run: PipelineRun, run_id: str, digest: str) -> Any:
        """A new version for the files that lie in the MLflow run, whose manifest has the SHA-256 ``digest``."""
        tags = {
            RUN_KEY: run.key,
            MANIFEST_TAG: digest,
            "stillroom.git_commit": run.commit,
            "stillroom.params": bundle.params_hash(run),
            "stillroom.data": engine.output(run.stages, "split", "data/splits"),
        }
        uri = f"{self.client.get_run(run_id).info.artifact_uri}/{MODEL_PATH}"
        self.tracker.ensure_model(self.name)
        made = self.client.create_model_version(self.name, uri, run_id, tags=tags)
        self.sign(made, digest)
        return made

    def sign(self, version: Any, digest: str) -> None:
        """Write the owner's signature of the manifest ``digest`` on ``version``, where there is a key."""
        signature = self.signer(self.name, int(version.version), digest) if self.signer else ""
        if signature and version.tags.get(SIGNATURE) != signature:
            self.client.set_model_version_tag(self.name, version.version, SIGNATURE, signature)

    def conclude(self, version: Any, decision: dict[str, Any]) -> None:
        """Write ``decision`` on the version and, with what changed since the champion of then, into its run."""
        number = version.version
        verdict = "promoted" if decision["promote"] else "waits" if decision.get("waits") else "held"
        self.client.set_model_version_tag(self.name, number, DECISION, verdict)
        self.client.set_model_version_tag(self.name, number, REASON, decision["reason"][:4000])
        with tempfile.TemporaryDirectory(dir=self.tracker.state.folder) as name:
            folder = Path(name)
            files.write_text(folder / "decision.json", json.dumps(decision, indent=1, sort_keys=True) + "\n")
            run = self.history.run(version.tags.get(RUN_KEY))
            if run is not None:
                before = self.history.run(run.about.get("against"))
                files.write_text(folder / "changes.md", changes.text(run, before))
            self.tracker.upload(version.run_id, folder, "")

    def describe(self, version: Any, note: str) -> None:
        """Write ``note`` on the page of ``version``, unless it says so."""
        if version.description != note:
            self.client.update_model_version(self.name, version.version, description=note)

    def shows(self, version: Any, decision: dict[str, Any]) -> bool:
        """Whether ``decision`` stands on the version."""
        found = self.concluded(version)
        same = found and (found["promote"], found["reason"]) == (decision["promote"], decision["reason"][:4000])
        return bool(same)

    def concluded(self, version: Any) -> dict[str, Any] | None:
        """The decision that stands on the version, without its evidence; None when nobody wrote one."""
        verdict = version.tags.get(DECISION)
        if verdict is None:
            return None
        return {"promote": verdict == "promoted", "waits": verdict == "waits", "reason": version.tags.get(REASON, ""),
                "evidence": {}, "against": None}  # fmt: skip

    def point(self, alias: str, number: int) -> None:
        """Have ``alias`` point to version ``number``."""
        self.client.set_registered_model_alias(self.name, alias, str(number))

    def led(self) -> str:
        """The id of the intent by which the alias `champion` was last set; empty when nothing says so."""
        found = self.client.search_registered_models(f"name = '{self.name}'")
        return str(found[0].tags.get(LED, "")) if found else ""

    def lead(self, intent: str) -> None:
        """Note that the alias `champion` is where the record ``intent`` has it."""
        if self.led() != intent:
            self.client.set_registered_model_tag(self.name, LED, intent)

    def decide(self, version: Any, champion: Any | None, params: RegisterParams) -> dict[str, Any]:
        """The gate's decision on ``version`` against ``champion``, as plain data."""
        with self.folder(version) as candidate:
            if champion is None or int(champion.version) == int(version.version):
                decision = decide(evidence.candidate(candidate), None, params)
            else:
                with self.folder(champion) as other:
                    decision = self._against(candidate, other, params)
        against = f"{self.name} version {champion.version}" if champion else None
        return {"against": against, **_plain(decision)}

    def _against(self, candidate: Path, champion: Path, params: RegisterParams) -> Decision:
        """The decision after scoring both on the candidate's held-out images, with its seed and its labels."""
        from components.evaluate import paired, stage

        root = self.tracker.state.root
        pixels, rows = root / "data/pixels", pack.read_split(root / "data/splits", "test")
        text = root / "data/text"
        try:
            evidence.same_space(candidate, champion)
            ours, theirs = evidence.candidate(candidate), evidence.champion(champion)
            seed = int(ours["sampler"]["seed"])  # what it was scored with, not what params.yaml says by now
            for side, folder in ((ours, candidate), (theirs, champion)):
                side["errors"] = stage.x0_errors(
                    folder, pixels, rows, seed=seed, quiet=True, text=text, latents=root / "data/latents"
                ).tolist()
            if params.max_slowdown is not None:
                ours["seconds"] = paired.seconds([candidate, champion])
            decision = decide(ours, theirs, params)
            if decision.promote:  # only then it pays to draw the champion's samples
                theirs["kid_change"] = paired.kid_change(
                    candidate, champion, pixels, confidence=params.confidence, text=text
                )
                decision = decide(ours, theirs, params)
        except UserError as error:
            return Decision(False, f"Not promoted: {error}; `stillroom promote` moves the alias by hand.", {})
        return decision

    @contextlib.contextmanager
    def folder(self, version: Any) -> Iterator[Path]:
        """The files of ``version`` while the body runs, compared with its manifest and that with tag and ledger.

        UserError when one differs, or when the version has no tag that names its manifest.
        """
        wanted = self._manifest(version)
        with self.tracker.pulled(version.source) as folder:
            bundle.verify(folder, wanted)
            yield folder

    def _manifest(self, version: Any) -> str:
        """The SHA-256 that the manifest of ``version`` has to have, by its tag and, where it is known, the ledger."""
        tag, number = version.tags.get(MANIFEST_TAG), int(version.version)
        known = {one.intent.body["manifest"] for one in decisions.standing(self.decided).values()
                 if one.version == number} - {None}  # fmt: skip
        if not tag:
            raise UserError(f"{self.name} version {number} has no tag {MANIFEST_TAG}: nothing says what its files are")
        if known and tag not in known:
            raise UserError(f"its tag {MANIFEST_TAG} is {tag}, not {' or '.join(sorted(known))} as in the ledger")
        return str(tag)

    def fault(self, version: Any, wanted: str | None = None) -> str:
        """What is wrong with the bytes of ``version``, in one line; empty when nothing is.

        ``wanted`` is the SHA-256 that its manifest has to have besides.
        """
        tag = version.tags.get(MANIFEST_TAG)
        if wanted and tag != wanted:
            return f"its tag {MANIFEST_TAG} is {tag}, not {wanted} as in the ledger"
        try:
            with self.folder(version):
                return ""
        except UserError as error:
            return str(error)

    def resolve(self, reference: str) -> Any:
        """The version that ``@alias`` or ``/number`` after ``models:/name`` names; UserError when there is none."""
        with explained(self.tracker.uri):
            found = self.tracker.version(self.name, reference)
            if found:
                return found
            known = [f"/{version.version}" for version in self.all()]
        held = f"it has {', '.join(known)}" if known else "nothing is registered under that name"
        raise UserError(f"models:/{self.name}{reference}: no such version in {self.tracker.uri}; {held}")


def _plain(decision: Decision) -> dict[str, Any]:
    return {"promote": decision.promote, "reason": decision.reason, "evidence": decision.evidence}
