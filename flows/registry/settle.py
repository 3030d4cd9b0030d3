"""Decide on a version and move the alias: the intent goes on record first, then the alias moves, then the outcome.

Killed at any point, the next run ends what was begun.  A pair of version and champion is decided once.  The alias
moves only from where it was when the decision was made, and only to bytes that were just compared with their manifest.
"""

from __future__ import annotations

import getpass
from typing import Any

from components.base.errors import UserError
from components.register.params import RegisterParams
from flows.history import decisions, git
from flows.history.decisions import Result
from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import aliases, bundle, chain
from flows.registry.mlflow import MANIFEST_TAG
from flows.registry.versions import Versions

_TRIES = 5
"""How often a decision is made anew because somebody else moved the alias meanwhile."""


def settle(versions: Versions, version: Any, run: PipelineRun, params: RegisterParams) -> dict[str, Any]:
    """The decision on ``version`` of ``run``: the one on record, one that the registry holds, or the gate's now."""
    about = versions.decided
    standing = decisions.of_key(about, run.key)
    if standing:
        return standing.intent.body["decision"]
    elsewhere = versions.concluded(version)
    pending = decisions.open_of(about, run.key)
    if pending is None and elsewhere is not None:  # decided by another machine, which has not shared its ledger
        adopted = _begin(versions, version, run.key, elsewhere, expected=None, by="another machine")
        _end(versions, adopted, "adopted")
        return elsewhere
    begun: Record | None = pending.intent if pending else None
    for _ in range(_TRIES):
        if begun is None:
            champion = versions.champion()
            decision = _left_to_a_person(versions.decide(version, champion, params), params)
            begun = _begin(versions, version, run.key, decision, expected=_number(champion), by="gate")
        if carry_out(versions, version, begun) != "overtaken":
            return begun.body["decision"]
        begun = None
    raise UserError(f"{versions.name}@champion was moved {_TRIES} times while the gate compared with it: run it again")


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
    who = _who(versions)
    reason = found.intent.body["decision"]["reason"].removeprefix("Waits for approval: ")
    decision = {**found.intent.body["decision"], "promote": True, "waits": False, "approved_by": who,
                "reason": f"Promoted, approved by {who}: {reason}"}  # fmt: skip
    return _promote(versions, version, run, decision, expected=now)


def by_hand(versions: Versions, version: Any, run: PipelineRun, reason: str) -> dict[str, Any]:
    """Promote ``version`` of ``run`` for ``reason``; the decision, which is then on record."""
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
    begun = _begin(versions, version, run.key, decision, expected=expected, by=_who(versions))
    if carry_out(versions, version, begun) == "overtaken":
        raise UserError(f"{versions.name}@champion was moved by somebody else just now: look at it, and promote again")
    return decision


def carry_out(versions: Versions, version: Any, begun: Record) -> Result:
    """Do what the intent ``begun`` says, put the outcome on record, and write it on the version."""
    result = _moved(versions, version, begun)
    _end(versions, begun, result)
    if result != "overtaken":
        versions.conclude(version, begun.body["decision"])
        aliases.bring(versions, say=lambda _: None)
    return result


def _moved(versions: Versions, version: Any, begun: Record) -> Result:
    if not begun.body["decision"]["promote"]:
        return "held"
    now = _number(versions.champion())
    if now not in (int(version.version), begun.body["expected"]):
        return "overtaken"
    _refuse(versions, version, begun.body["manifest"])
    if now != int(version.version):  # else moved by a process that was killed before it could say so
        versions.point(aliases.CHAMPION, int(version.version))
    return "promoted"


def _refuse(versions: Versions, version: Any, manifest: str | None) -> None:
    """UserError when the bytes of ``version`` are not those of its manifest: no alias points at such."""
    fault = versions.fault(version, manifest)
    if fault:
        raise UserError(f"{versions.name} version {version.version} is not promoted: {fault}")


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


def _who(versions: Versions) -> str:
    name = git.maybe(versions.tracker.state.root, "config", "--get", "user.name")
    return name or getpass.getuser()
