"""The aliases of a registered model: made from the ledger, and their bytes kept from `dvc gc`.

``champion`` is the version in use, ``previous`` the champion before it, ``challenger`` the last version that the gate
found better and that waits for a person's approval, or else the last one that the gate held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from flows.history import decisions, git, ledger
from flows.history.decisions import Decided
from flows.history.known import History
from flows.registry.mlflow import RUN_KEY
from flows.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Versions

BRANCH = "refs/heads/kept-by-stillroom"
"""A branch for each alias holds the dvc.lock of its version: what no branch and no tag names, `dvc gc` removes."""

_BEFORE = "refs/heads/stillroom"
"""Where those branches lay before; a person may well call a branch of their own so."""
_MARK = "Kept by Stillroom, so that `dvc gc` leaves its files alone."
"""In the message of a commit that is ours; a branch whose commit is not is left alone."""


def wanted(decided: Iterable[Decided]) -> dict[str, Decided]:
    """For each alias the decision whose version it points to, by the ledger alone; none for one that points nowhere."""
    found: dict[str, Decided] = {}
    numbered: dict[int | None, Decided] = {}
    for one in decided:
        numbered[one.version] = one
        if one.deleted:
            found = {alias: other for alias, other in found.items() if other.intent.key != one.intent.key}
        if not one.counts:
            continue
        if one.promoted:
            before = _before(numbered, found.get(CHAMPION), one)
            if before is not None and before.intent.key != one.intent.key:
                found[PREVIOUS] = before
            elif before is None:
                found.pop(PREVIOUS, None)  # a version that is on no record here
            found[CHAMPION] = one
            if found.get(CHALLENGER, one).intent.key == one.intent.key:
                found.pop(CHALLENGER, None)
        elif not one.backfilled and (one.waits or waiting(found) is None):
            found[CHALLENGER] = one
    return found


def _before(numbered: Mapping[int | None, Decided], champion: Decided | None, now: Decided) -> Decided | None:
    """The decision on the version that was champion when ``now`` was made, which may be none that the ledger knew."""
    expected = now.intent.body["expected"]
    if now.adopted or expected is None or (champion is not None and champion.version in (None, expected)):
        return champion
    return numbered.get(expected)


def waiting(targets: Mapping[str, Decided]) -> Decided | None:
    """The decision that a person has to approve: the challenger's, while what it was compared with is the champion."""
    challenger, champion = targets.get(CHALLENGER), targets.get(CHAMPION)
    if challenger is None or not challenger.waits:
        return None
    return challenger if challenger.intent.body["expected"] == (champion and champion.version) else None


def before(versions: Versions) -> Any | None:
    """The version that was champion before the present one, by the ledger; None when that knows none."""
    found = wanted(versions.decided).get(PREVIOUS)
    return versions.of(found.intent.key) if found else None


def behind(versions: Versions, champion: Any | None) -> bool:
    """Whether the alias is where Stillroom set it, and the ledger has a later champion, made elsewhere.

    As in another worktree, or on a machine whose records were fetched, each with an MLflow of its own.  An alias that a
    person moved is not where Stillroom set it.
    """
    key = champion.tags.get(RUN_KEY) if champion else None
    leader = decisions.champion(versions.decided)
    if leader is None or not key or leader.intent.key == key:
        return False
    return overtaken(versions.decided, key, versions.led())


def overtaken(decided: Iterable[Decided], key: str, led: str) -> bool:
    """Whether ``decided`` has a later champion than the version of run ``key``, which the intent ``led`` made that."""
    every = list(decided)
    leader = decisions.champion(every)
    by = next((one for one in every if one.intent.id == led and one.intent.key == key), None)
    if by is None or leader is None or leader.order <= by.order:
        return False
    # One that was decided against the other came after it, whatever the clocks of two machines say.
    return leader.intent.body["expected"] == by.version or by.intent.body["expected"] != leader.version


def bring(versions: Versions, *, say: Callable[[str], None]) -> None:
    """Set the aliases that are missing, `previous` and `challenger` anew, and keep all their versions' bytes.

    An alias ``champion`` that is there may have been moved by hand, and stays, unless the ledger is ahead of it.
    """
    targets = wanted(versions.decided)
    for alias, decided in targets.items():
        version = versions.of(decided.intent.key)
        if version is None:
            continue
        number, there = int(version.version), versions.tracker.version(versions.name, f"@{alias}")
        if there is not None and int(there.version) == number:
            continue
        if there is not None and alias == CHAMPION and not behind(versions, there):
            continue
        fault = versions.fault(version, decided.intent.body["manifest"])
        if fault:
            say(f"{versions.name}@{alias} is not set to version {number}: {fault}")
            continue
        versions.point(alias, number)
        if alias == CHAMPION:
            versions.lead(decided.intent.id)
            said = (
                "again"
                if there is None
                else f"and no more {there.version}: {decided.intent.body['decision']['reason']}"
            )
            say(f"{versions.name}@{alias} is version {number} {said}")
    if CHALLENGER not in targets and versions.tracker.version(versions.name, f"@{CHALLENGER}"):
        versions.client.delete_registered_model_alias(versions.name, CHALLENGER)
    keep(versions.history, {alias: version.tags.get(RUN_KEY, "") for alias in (CHAMPION, PREVIOUS, CHALLENGER)
                            if (version := versions.tracker.version(versions.name, f"@{alias}"))}, say=say)  # fmt: skip


def keep(history: History, pointed: Mapping[str, str], *, say: Callable[[str], None]) -> None:
    """Have a branch for each alias hold the dvc.lock of the version that it points to: DVC then finds its files used.

    ``pointed`` has the key of that version's pipeline run, be it one that a person moved the alias to.  Where a person
    has a branch of that name, it stays as it is.
    """
    root = history.root
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        _remove(root, f"{_BEFORE}/{alias}")
        if alias not in pointed:
            _remove(root, f"{BRANCH}/{alias}")
    prefix = git.git(root, "rev-parse", "--show-prefix").strip()
    for alias, key in pointed.items():
        run = history.run(key)
        if run is None:
            continue
        texts = {f"{prefix}{path}": run.files[path] for path in ("dvc.yaml", "dvc.lock", "params.yaml")
                 if path in run.files}  # fmt: skip
        about = f"{alias}: the data and the model of pipeline run {run.key[:12]}\n\n{_MARK}"
        commit, ref = ledger.commit_of(root, texts, about, run.when), f"{BRANCH}/{alias}"
        held = git.commit(root, ref)
        try:
            if held and not _ours(root, held):
                raise UserError("it is not Stillroom's")
            if held != commit:
                git.git(root, "update-ref", ref, commit)
        except UserError as error:
            say(f"branch {ref.removeprefix('refs/heads/')} stays as it is ({error}): rename it, or `dvc gc` may remove "
                f"what {alias} is made of")  # fmt: skip


def _remove(root: Path, ref: str) -> None:
    """Remove the branch ``ref``, if it is there and ours."""
    held = git.commit(root, ref)
    if held and _ours(root, held):
        git.git(root, "update-ref", "-d", ref, held)


def _ours(root: Path, commit: str) -> bool:
    parents, _, message = git.git(root, "log", "-1", "--format=%P%n%B", commit).partition("\n")
    return not parents and _MARK in message
