"""Write to MLflow what the ledger holds and MLflow has lost: runs, versions under their numbers, bytes, aliases."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from flows.dvc import engine
from flows.history import decisions, ledger
from flows.history.decisions import Decided
from flows.history.known import History
from flows.history.store import PipelineRun
from flows.registry import aliases, bundle, changes, impact
from flows.registry.mlflow import MANIFEST_TAG, RUN_KEY
from flows.registry.versions import Versions

Say = Callable[[str], None]
_GAP = 1000
"""How far a number on record may lie above MLflow's last: those in between were given to versions that are on no
record.  A wider gap is taken for a damaged record."""


class _Lost(UserError):
    """The files of a version are not here."""


def restore(versions: Versions, *, say: Say, keys: Container[str] | None = None) -> list[str]:
    """Bring back what is lost; returns the runs, by their keys, whose files are neither there nor in DVC's cache.

    The MLflow runs and the bytes of the versions of the runs ``keys`` are looked at too, None for all; those of
    aliases always are.  UserError when a number belongs to another pipeline run in MLflow than in the ledger: pins
    would lie.
    """
    runs = {run.key: run for run in changes.labelled(versions.history.runs)}
    every = versions.decided
    by_key = {key: one for key, one in decisions.standing(every).items() if key in runs}
    used = {one.intent.key for one in aliases.wanted(every).values()}
    there = {int(version.version): version for version in versions.all()}
    lost = []
    for one in sorted(by_key.values(), key=_number):
        run = runs[one.intent.key]
        try:
            version = _version(versions, there, one, run, say)
        except _Lost as error:
            say(str(error))
            lost.append(run.key)
            continue
        if version is None:
            continue
        if keys is None or run.key in keys:
            versions.tracker.ensure(run)
        looked = keys is None or run.key in keys or run.key in used
        if looked and not mend(versions, version, one, run, say):
            lost.append(run.key)
        if one.intent.body["manifest"]:  # what the ledger says is signed, not what the registry says
            versions.sign(version, one.intent.body["manifest"])
        if not versions.shows(version, one.intent.body["decision"]):
            versions.conclude(version, one.intent.body["decision"])
        versions.describe(version, run.about["note"])
    aliases.bring(versions, say=say)
    return lost


def objects(root: Path, name: str) -> list[Path]:
    """What DVC's cache has of the files of every version of ``name``: what `stillroom sync` makes lost ones from.

    No images: the model, the scores and the pictures that it drew; and the hashes of the images that it was trained on.
    """
    history, found = History(root), set[Path]()
    for key in decisions.standing(history.decided(name)):
        run = history.run(key)
        for stage, path, only in (("train", "models/candidate", None),
                                  ("evaluate", "models/evaluation", bundle.OF_EVALUATION),
                                  ("resize", "data/pixels", {impact.KEYS}),
                                  ("split", "data/splits", {impact.TRAINED})):  # fmt: skip
            digest = engine.output(run.stages, stage, path) if run else ""
            held = engine.cached(root, digest, only)
            found |= {engine.listing(root, digest), *held.values()} if held else set()
    return sorted(found)


def _number(one: Decided) -> tuple[int, tuple[int, int, str]]:
    """Those whose number is known come first: a number cannot be had once a later one is taken."""
    return (one.version if one.version is not None else 2**31, one.order)


def _version(
    versions: Versions, there: Mapping[int, Any], one: Decided, run: PipelineRun, say: Say
) -> Any | None:  # fmt: skip
    """The version of the decision ``one``, created under its number when MLflow has lost it; None when that fails."""
    found = versions.of(run.key) if one.version is None else there.get(one.version)
    if found is None:
        return _created(versions, max(there, default=0), one, run, say)
    if RUN_KEY not in found.tags and found.tags.get(MANIFEST_TAG) == (one.intent.body["manifest"] or ""):
        say(f"{versions.name} version {found.version}: tag {RUN_KEY} was deleted; it is put right")
        versions.client.set_model_version_tag(versions.name, found.version, RUN_KEY, run.key)
        return versions.numbered(int(found.version))
    if found.tags.get(RUN_KEY) != run.key:
        raise UserError(
            f"{versions.name} version {found.version} in MLflow was made by pipeline run "
            f"{found.tags.get(RUN_KEY, 'unknown')[:8]}, in the ledger by {run.key[:8]}: "
            f"{ledger.FETCH_COMMAND} gets the other machine's ledger; else register under another name (register.name)"
        )
    return found


def _created(versions: Versions, highest: int, one: Decided, run: PipelineRun, say: Say) -> Any | None:
    """The version made again; None where MLflow, whose numbers begin after ``highest``, has given its number before.

    _Lost where its files cannot be had.
    """
    if one.version is not None and not highest < one.version <= highest + _GAP:
        if one.version < highest:
            deleted(versions, one, say)
            return None
        raise UserError(f"{versions.name} version {one.version} is on record, and MLflow's last is {highest}: look at "
                        f"record {one.intent.id[:12]} (`git show {one.intent.id[:12]}`)")  # fmt: skip
    run_id = versions.tracker.ensure(run)
    manifest, recorded = one.intent.body["manifest"], _manifest(versions, one)
    if manifest is None or recorded is None:  # an older record: the version is made as it would be now
        uploaded = versions.upload(run, run_id)
        if uploaded is None:
            raise _Lost(f"pipeline run {run.key[:8]}: MLflow run {run_id}; its model is not in DVC's cache")
        manifest = bundle.digest(uploaded)
    while True:
        other = _others(versions, one, run)
        if other is not None:
            return other
        made = versions.create(run, run_id, manifest)
        if one.version is None or int(made.version) == one.version:
            break
        versions.client.delete_model_version(versions.name, made.version)  # a number that something else had
        if int(made.version) > one.version:
            other = _others(versions, one, run)
            if other is None:
                deleted(versions, one, say)
            return other
    versions.conclude(made, one.intent.body["decision"])
    say(f"pipeline run {run.key[:8]}: MLflow run {run_id}, {versions.name} version {made.version} is there again")
    return made


def _others(versions: Versions, one: Decided, run: PipelineRun) -> Any | None:
    """The version, where another machine has brought it back since this one looked.

    A number that is taken in vain is lost for good: so this is asked just before one is taken.
    """
    found = versions.numbered(one.version) if one.version is not None else versions.of(run.key)
    return found if found is not None and found.tags.get(RUN_KEY) == run.key else None


def deleted(versions: Versions, one: Decided, say: Say) -> None:
    """Put on record that a person deleted the version of ``one``: MLflow gives no number twice, so it stays deleted."""
    named = f"{versions.name} version {one.version}"
    decision = {"promote": False, "reason": f"{named} was deleted from MLflow", "evidence": {}, "against": None}
    body = {**one.intent.body, "expected": None, "decision": decision, "by": "stillroom", "files": []}
    begun = versions.history.append("intent", one.intent.key, body)
    versions.history.append("outcome", one.intent.key, decisions.outcome(begun, "deleted"))
    say(f"{named} was deleted from MLflow, and MLflow gives no number twice: it stays deleted")


def mend(versions: Versions, version: Any, one: Decided, run: PipelineRun, say: Say) -> bool:
    """Whether the bytes of ``version`` are what the ledger says, taken from DVC's cache once more if they are not."""
    wanted = one.intent.body["manifest"]
    if wanted and version.tags.get(MANIFEST_TAG) != wanted:
        say(f"{versions.name} version {version.version}: tag {MANIFEST_TAG} was changed; it is put right")
        versions.client.set_model_version_tag(versions.name, version.version, MANIFEST_TAG, wanted)
        version = versions.numbered(int(version.version))
    fault = versions.fault(version, wanted)
    if not fault:
        return True
    try:
        uploaded = versions.upload(run, version.run_id, _manifest(versions, one))
    except UserError as error:
        uploaded, fault = None, f"{fault}; DVC's cache does not hold it as it was either ({error})"
    if uploaded is None:
        say(f"{versions.name} version {version.version}: {fault}: `dvc pull` and `stillroom sync` mend it")
        return False
    left = versions.fault(version, wanted)
    say(f"{versions.name} version {version.version}: {fault}: " + (f"still wrong: {left}" if left else "mended from "
        "DVC's cache"))  # fmt: skip
    return not left


def _manifest(versions: Versions, one: Decided) -> bytes | None:
    """The text of the version's manifest, as it is on record."""
    (held,) = ledger.files(versions.tracker.state.root, [one.intent])
    return held.get(bundle.MANIFEST)
