"""Publish a pipeline run: record it in git, log it in MLflow, register its model, decide on promotion; idempotent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.base import config
from components.base.errors import UserError
from components.html.page import plural
from components.register.params import RegisterParams
from flows.dvc import engine
from flows.history import decisions, elsewhere, git, store
from flows.history.known import History
from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import aliases, bundle, chain, changes, restore, settle, sign, verdict
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import RUN_KEY, Tracker, explained
from flows.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Versions
from flows.workspace import exits
from flows.workspace.paths import State


def publish(
    state: State, outcomes: dict[str, str], metrics: MetricStream, *, say: Callable[[str], None],
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Record the run in the working tree, register its model and let the gate decide; what `published` returns later,
    and as "did" a name for people.

    ``outcomes`` says of each stage whether it was executed, restored or unchanged, ``seconds`` how long it took.
    """
    params = register_params(state.root)
    run = store.current(state.root)
    if run is None:
        raise UserError("dvc.lock does not hold every stage yet: run `stillroom run`")
    changed = store.unlike(state.root, run)
    if changed:
        raise UserError(f"{changed} was changed while the run went on: nothing is recorded; `stillroom run` again")
    signer = sign.signer(state.root, params, say=say)
    with explained(os.environ["MLFLOW_TRACKING_URI"]), settle.alone(state.root, what="stillroom run", say=say):
        history, user = History(state.root), git.maybe(state.root, "config", "--get", "user.name")
        run = _as_made(run, outcomes, seconds or {}, history.records, user, state.root)
        history.record(run)
        tracker = metrics.tracker
        versions = Versions(tracker, params.name, history)
        versions.signer = signer
        restore.restore(versions, say=say, keys=())
        again, run = run, history.run(run.key) or run
        version = versions.add(run, tracker.ensure(run))
        if _model(again) != _model(run):
            say(f"stage train gave other bytes than {params.name} version {version.version} has, which stays as it is: "
                "change a parameter, such as train.seed, to have them registered")  # fmt: skip
        decision = settle.settle(versions, version, run, params)
        restore.restore(versions, say=say, keys=(run.key,))
        verdict.write(versions, version, run, decision)
        (label,) = (one.about["name"] for one in changes.labelled(history.runs) if one.key == run.key)
        return {**_result(tracker, versions, version, decision), "did": label}


def publish_beside(
    state: State, place: Path, outcomes: dict[str, str], seconds: Mapping[str, float], *, say: Callable[[str], None]
) -> int:
    """Record the run in the worktree ``place`` and register its model without a decision of the gate; its number.

    The cache of ``place`` is the checkout's, and so are MLflow and the ledger.
    """
    params, run = register_params(state.root), store.current(place)
    if run is None:
        raise UserError(f"{place}: dvc.lock does not hold every stage")
    changed = store.unlike(place, run)
    if changed:
        raise UserError(f"{changed} was changed in {place} while the run went on: nothing is recorded")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with explained(uri), settle.alone(state.root, what="stillroom backfill", say=say):
        history, user = History(state.root), git.maybe(state.root, "config", "--get", "user.name")
        run = _as_made(run, outcomes, seconds, history.records, user, place)
        history.record(run)
        tracker = Tracker(state, uri)
        versions = Versions(tracker, params.name, history)
        versions.signer = sign.signer(state.root, params, say=say)
        restore.restore(versions, say=say, keys=())
        run = history.run(run.key) or run
        version = versions.add(run, tracker.ensure(run))
        settle.backfilled(versions, version, run)
        restore.restore(versions, say=say, keys=(run.key,))
    return int(version.version)


def published(state: State) -> tuple[dict[str, Any] | None, str]:
    """What `publish` returned for the run in the working tree, as MLflow holds it now; or None, and why.

    Nothing is remembered: an alias that was moved or deleted, a version that is gone and bytes that changed are seen.
    """
    run = store.current(state.root)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if run is None:
        return None, "not every stage has run yet"
    params, history = register_params(state.root), History(state.root)
    decided = history.decided(params.name)
    standing, leader = decisions.of_key(decided, run.key), decisions.champion(decided)
    if standing is None:
        return None, "the current model is not registered yet"
    if any(one.outcome is None for one in decided):
        return None, "a decision was begun and not ended"
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return None, "the MLflow database is lost"
    with explained(uri):
        tracker = Tracker(state, uri)
        versions = Versions(tracker, params.name, history)
        version, champion = versions.of(run.key), versions.champion()
        if version is None or standing.version not in (None, int(version.version)):
            return None, f"MLflow has lost version {standing.version} of {params.name}"
        if leader and champion is None:
            return None, f"MLflow has lost the alias {CHAMPION} of {params.name}"
        ahead = versions.of(leader.intent.key) if leader and aliases.behind(versions, champion) else None
        if ahead and not versions.fault(ahead):
            return None, f"version {ahead.version} of {params.name} was made {CHAMPION} elsewhere"
        for one in filter(None, (version, champion)):
            fault = versions.fault(one)
            if fault:
                return None, f"{params.name} version {one.version}: {fault}"
        return _result(tracker, versions, version, standing.intent.body["decision"]), ""


def sync(state: State, say: Callable[[str], None]) -> int:
    """Create or complete the MLflow run and the version of each pipeline run in git, and the aliases; how many.

    Nothing is trained and nothing is decided again: the decisions are on record.  Bytes that are not what the ledger
    says are taken from DVC's cache again.  UserError, when all else is done, where it does not hold them either.
    """
    params = register_params(state.root)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with explained(uri), settle.alone(state.root, what="stillroom sync", say=say):
        tracker = Tracker(state, uri)
        closed = tracker.repair()
        if closed:
            say(f"ended {closed} MLflow run(s) that a killed process had left open")
        here, history = store.current(state.root), History(state.root)
        if here and history.run(here.key) is None:
            changed = store.unlike(state.root, here)
            if changed:
                say(f"the run in the working tree is not on record: {changed} was changed since: `stillroom run`")
            else:
                history.record(here)
        versions = Versions(tracker, params.name, history)
        versions.signer = sign.signer(state.root, params, say=say)
        lost = restore.restore(versions, say=say)
        settle.finish(versions)
        for run in changes.labelled(history.runs):
            run_id = tracker.ensure(run)
            if "decision" not in run.about:
                say(f"pipeline run {run.key[:8]}: MLflow run {run_id}. Not compared with the champion yet.")
                continue
            version = versions.of(run.key)
            number = f"{params.name} version {version.version}" if version else f"no version of {params.name}"
            say(f"pipeline run {run.key[:8]}: MLflow run {run_id}, {number}")
        _tell(versions, say)
    if lost:
        raise UserError(
            f"{plural(len(lost), 'version')} of {params.name}: without files, since DVC's cache does not hold them "
            "either: `dvc pull` (`dvc fetch --all-commits` for what older commits name), then `stillroom sync` again"
        )
    return len(history.runs)


def _tell(versions: Versions, say: Callable[[str], None]) -> None:
    """Say of the version of each alias which link of its lineage does not hold, but for those that take long."""
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        version = versions.tracker.version(versions.name, f"@{alias}")
        first = chain.broken(chain.verify_chain(versions, version, only=chain.QUICK)) if version else None
        if version and first:
            say(f"{versions.name}@{alias}, version {version.version}: {first.name}: {first.found}: {first.mend}")


def promote(state: State, number: int, reason: str | None) -> str:
    """Move the alias to version ``number`` by hand; says in one line what was done.

    ``reason`` goes on record.  None: the version is one that waits for approval, and the gate's reason counts.
    """
    params = register_params(state.root)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with explained(uri), settle.alone(state.root, what="stillroom promote", say=exits.note):
        decision = promote_version(Versions(Tracker(state, uri), params.name), number, reason)
    return f"{params.name}@{CHAMPION} is version {number}: {decision['reason']}"


def promote_version(versions: Versions, number: int, reason: str | None) -> dict[str, Any]:
    """Move the alias as `promote`, and write the page of the decision; the decision, which is then on record."""
    version = versions.resolve(f"/{number}")
    run = versions.history.run(version.tags.get(RUN_KEY))
    if run is None:
        raise UserError(
            f"{versions.name} version {number}: not made in this checkout: promote it in the one that made it"
        )
    decision = (
        settle.approve(versions, version, run) if reason is None
        else settle.by_hand(versions, version, run, reason)
    )  # fmt: skip
    verdict.write(versions, version, run, decision)
    return decision


def register_params(root: Path) -> RegisterParams:
    """Section ``register`` of params.yaml; no stage reads it, since the alias is shared and not cached."""
    sections = config.of(root)
    return config.section(sections, "register", RegisterParams)


def _model(run: PipelineRun) -> str:
    return engine.output(run.stages, "train", "models/candidate")


def _as_made(
    run: PipelineRun,
    outcomes: dict[str, str],
    seconds: Mapping[str, float],
    known: Iterable[Record],
    user: str,
    root: Path | None = None,
) -> PipelineRun:
    """``run`` with what is on record of how it was made, or of how it was made just now."""
    earlier = next((one for one in reversed(list(known)) if one.kind == "run" and one.key == run.key), None)
    body = earlier.body if earlier else {}
    executed = {
        name: round(seconds[name], 1) for name, how in outcomes.items() if how == "executed" and name in seconds
    }
    trained = outcomes.get("train") == "executed"
    about = {
        "stages": outcomes if "executed" in outcomes.values() or "stages" not in body else body["stages"],
        "libraries": bundle.libraries(root) if trained or not body.get("libraries") else body["libraries"],
        "machine": bundle.machine() if trained else body.get("machine"),
        "seconds": {**body.get("seconds", {}), **executed},
        "user": body.get("user") if earlier else user,
    }
    if root and (trained or not body.get("libraries")):
        about |= elsewhere.of(root, run.stages)
    about = {name: value for name, value in about.items() if value}
    if earlier:  # made then, from that commit; now it is only found again
        return replace(run, about=about, commit=body["commit"], dirty=body["dirty"], when=body.get("made", run.when))
    return replace(run, about=about)


def _result(tracker: Tracker, versions: Versions, version: Any, decision: dict[str, Any]) -> dict[str, Any]:
    champion, waits = versions.champion(), aliases.waiting(aliases.wanted(versions.decided))
    return {
        "run": version.run_id,
        "experiment": tracker.experiment,
        "name": versions.name,
        "version": int(version.version),
        "champion": int(champion.version) if champion else None,
        "waits": waits.version if waits else None,
        "reason": decision["reason"],
    }
