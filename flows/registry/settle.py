"""Decide on a version and move the alias: the intent goes on record first, then the alias moves, then the outcome.

Killed at any point, the next command that decides, or `stillroom sync`, ends what was begun.  A pair of version and
champion is decided once.  The alias moves only from where it was when the decision was made, and only to bytes that
were just compared with their manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.register.params import RegisterParams
from flows.history import decisions, git
from flows.history.decisions import Result
from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import aliases, bundle, chain
from flows.registry.mlflow import MANIFEST_TAG, RUN_KEY
from flows.registry.versions import Versions
from flows.workspace import lock

_TRIES = 5
"""How often a decision is made anew because somebody else moved the alias meanwhile."""


class Refused(UserError):
    """The bytes of a version are not those of its manifest: no alias points at such."""


@contextlib.contextmanager
def alone(root: Path, *, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other worktrees of the repository out, from before the ledger is read until what was decided is on record.

    Each has an MLflow of its own, which would give the number that comes next to another version.
    """
    path = git.common(root) / "stillroom.lock"
    with lock.held(path, what=what, wait=True, say=say, where=f"in a worktree of {path.parent.parent}"):
        yield


def settle(versions: Versions, version: Any, run: PipelineRun, params: RegisterParams) -> dict[str, Any]:
    """The decision on ``version`` of ``run``: the one on record, one that the registry holds, or the gate's now."""
    finish(versions)
    standing = decisions.of_key(versions.decided, run.key)
    if standing:
        return standing.intent.body["decision"]
    elsewhere = versions.concluded(version)
    if elsewhere is not None:  # decided by another machine, which has not shared its ledger
        champion = _number(versions.champion())
        adopted = _begin(versions, version, run.key, elsewhere, expected=champion, by="another machine")
        _end(versions, adopted, "adopted")
        return elsewhere
    for _ in range(_TRIES):
        champion = versions.champion()
        decision = _left_to_a_person(versions.decide(version, champion, params), params)
        begun = _begin(versions, version, run.key, decision, expected=_number(champion), by="gate")
        if carry_out(versions, version, begun) != "overtaken":
            return decision
    raise UserError(f"{versions.name}@champion was moved {_TRIES} times while the gate compared with it: run it again")


def backfilled(versions: Versions, version: Any, run: PipelineRun) -> dict[str, Any]:
    """The decision on ``version``, which was made from an older commit: the one on record, or that it is kept aside."""
    finish(versions)
    standing = decisions.of_key(versions.decided, run.key)
    if standing:
        return standing.intent.body["decision"]
    reason = f"Backfilled from commit {run.commit[:12]}: compared with no champion"
    decision = {"promote": False, "backfilled": True, "reason": reason, "evidence": {}, "against": None}
    begun = _begin(versions, version, run.key, decision, expected=_number(versions.champion()), by="backfill")
    carry_out(versions, version, begun)
    return decision


def finish(versions: Versions) -> None:
    """End what a killed process began, whatever version it is about: do it, or say on record why not.

    Then set the alias where the ledger has a later champion than MLflow, and put on record which version MLflow has
    where that is not why they differ: a person moved the alias there, or a machine whose records are not here, or two
    machines at once.
    """
    for one, later in decisions.left_open(versions.decided):
        version = versions.numbered(one.version) if one.version is not None else None
        if later or version is None or version.tags.get(RUN_KEY) != one.intent.key:
            _end(versions, one.intent, "overtaken")
            continue
        try:
            carry_out(versions, version, one.intent)
        except Refused:
            _end(versions, one.intent, "refused")
    found, leader = versions.champion(), decisions.champion(versions.decided)
    key = found.tags.get(RUN_KEY) if found else None
    if key and leader is not None and leader.intent.key == key:
        versions.lead(leader.intent.id)
    elif aliases.behind(versions, found):
        aliases.bring(versions, say=lambda _: None)
    elif key and not versions.fault(found):
        said = versions.concluded(found)
        if not said or not said["promote"]:
            reason = f"Promoted in MLflow: {versions.name}@{aliases.CHAMPION} was found on it"
            said = {"promote": True, "reason": reason, "evidence": {}, "against": None}
        adopted = _begin(versions, found, key, said, expected=_number(found), by="another machine")
        _end(versions, adopted, "adopted")
        versions.lead(adopted.id)
        _tell(versions, found, said)


def _left_to_a_person(decision: dict[str, Any], params: RegisterParams) -> dict[str, Any]:
    """``decision``, but where a person has to approve what the gate would promote, that it waits for one."""
    if not decision["promote"] or params.approval != "person":
        return decision
    reason = decision["reason"].removeprefix("Promoted: ")
    return {**decision, "promote": False, "waits": True, "reason": f"Waits for approval: {reason}"}


def approve(versions: Versions, version: Any, run: PipelineRun) -> dict[str, Any]:
    """Promote ``version`` of ``run``, which waits for a person; the decision, which is then on record with who it was.

    UserError when it does not wait, or when the champion is another than the gate compared it with.
    """
    finish(versions)
    named = f"{versions.name} version {version.version}"
    found = decisions.of_key(versions.decided, run.key)
    if found is None or not found.waits:
        raise UserError(f"{named} does not wait for approval: `stillroom history` lists what was decided")
    now = _number(versions.champion())
    if now != found.intent.body["expected"]:
        against = found.intent.body["decision"]["against"] or "no champion"
        raise UserError(
            f"{named} was compared with {against}, and the champion is {f'version {now}' if now else 'none'} now: "
            f"`stillroom promote {version.version} --reason ...` promotes it all the same"
        )
    chain.refuse(versions, version, "promoted")
    who = git.user(versions.tracker.state.root)
    reason = found.intent.body["decision"]["reason"].removeprefix("Waits for approval: ")
    decision = {**found.intent.body["decision"], "promote": True, "waits": False, "approved_by": who,
                "reason": f"Promoted, approved by {who}: {reason}"}  # fmt: skip
    return _promote(versions, version, run, decision, expected=now)


def by_hand(versions: Versions, version: Any, run: PipelineRun, reason: str) -> dict[str, Any]:
    """Promote ``version`` of ``run`` for ``reason``; the decision, which is then on record."""
    finish(versions)
    chain.refuse(versions, version, "promoted")  # before it is on record as meant
    champion = versions.champion()
    earlier = decisions.of_key(versions.decided, run.key)
    decision = {
        **(earlier.intent.body["decision"] if earlier else {"evidence": {}}),
        "waits": False,
        "against": f"{versions.name} version {champion.version}" if champion else None,
        "promote": True,
        "reason": f"Promoted by hand: {reason}",
    }
    return _promote(versions, version, run, decision, expected=_number(champion))


def _promote(
    versions: Versions, version: Any, run: PipelineRun, decision: dict[str, Any], *, expected: int | None
) -> dict[str, Any]:
    begun = _begin(versions, version, run.key, decision, expected=expected, by=git.user(versions.tracker.state.root))
    if carry_out(versions, version, begun) == "overtaken":
        raise UserError(f"{versions.name}@champion was moved by somebody else just now: look at it, and promote again")
    return decision


def carry_out(versions: Versions, version: Any, begun: Record) -> Result:
    """Do what the intent ``begun`` says, put the outcome on record, and write it on the version."""
    result = _moved(versions, version, begun)
    _end(versions, begun, result)
    if result != "overtaken":
        _tell(versions, version, begun.body["decision"])
    return result


def _tell(versions: Versions, version: Any, decision: dict[str, Any]) -> None:
    versions.conclude(version, decision)
    aliases.bring(versions, say=lambda _: None)


def _moved(versions: Versions, version: Any, begun: Record) -> Result:
    if not begun.body["decision"]["promote"]:
        return "held"
    fault = versions.fault(version, begun.body["manifest"])
    now = _number(versions.champion())  # after the bytes, which take long: MLflow cannot compare and move in one step
    if now not in (int(version.version), begun.body["expected"]):
        return "overtaken"
    if fault:
        raise Refused(f"{versions.name} version {version.version} is not promoted: {fault}")
    if now != int(version.version):  # else moved by a process that was killed before it could say so
        versions.point(aliases.CHAMPION, int(version.version))
    versions.lead(begun.id)
    return "promoted"


def _begin(
    versions: Versions, version: Any, key: str, decision: dict[str, Any], *, expected: int | None, by: str
) -> Record:
    with versions.tracker.pulled(version.source) as folder:
        path = folder / bundle.MANIFEST
        manifest = path.read_bytes() if path.is_file() else b""
    tag = version.tags.get(MANIFEST_TAG)
    held = {bundle.MANIFEST: manifest} if tag and bundle.digest(manifest) == tag else {}
    body = decisions.intent(name=versions.name, version=int(version.version), manifest=tag, expected=expected,
                            decision=decision, by=by)  # fmt: skip
    return versions.history.append("intent", key, {**body, "files": sorted(held)}, held)


def _end(versions: Versions, begun: Record, result: Result) -> None:
    versions.history.append("outcome", begun.key, decisions.outcome(begun, result))


def _number(version: Any | None) -> int | None:
    return None if version is None else int(version.version)
