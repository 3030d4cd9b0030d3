"""The aliases of a registered model: made from the ledger, and their bytes kept from `dvc gc`.

``champion`` is the version in use, ``previous`` the champion before it, ``challenger`` the last version that the gate
found better and that waits for a person's approval, or else the last one that the gate held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flows.history import decisions, git, ledger, store
from flows.history.decisions import Decided
from flows.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Versions

BRANCH = "refs/heads/stillroom"
"""A branch for each alias holds the dvc.lock of its version: what no branch and no tag names, `dvc gc` removes."""


def wanted(decided: Iterable[Decided]) -> dict[str, Decided]:
    """For each alias the decision whose version it points to, by the ledger alone; none for one that points nowhere."""
    found: dict[str, Decided] = {}
    for one in decided:
        if not one.counts:
            continue
        if one.promoted:
            before = found.get(CHAMPION)
            if before is not None and before.intent.key != one.intent.key:
                found[PREVIOUS] = before
            found[CHAMPION] = one
            if found.get(CHALLENGER, one).intent.key == one.intent.key:
                found.pop(CHALLENGER, None)
        elif one.waits or waiting(found) is None:
            found[CHALLENGER] = one
    return found


def waiting(targets: Mapping[str, Decided]) -> Decided | None:
    """The decision that a person has to approve: the challenger's, while what it was compared with is the champion."""
    challenger, champion = targets.get(CHALLENGER), targets.get(CHAMPION)
    if challenger is None or not challenger.waits:
        return None
    return challenger if challenger.intent.body["expected"] == (champion and champion.version) else None


def bring(versions: Versions, *, say: Callable[[str], None]) -> None:
    """Set the aliases that are missing, `previous` and `challenger` anew, and keep all their versions' bytes.

    An alias ``champion`` that is there may have been moved by hand, and stays.
    """
    root = versions.tracker.state.root
    targets = wanted(decisions.all_of(store.records(root), versions.name))
    for alias, decided in targets.items():
        version = versions.of(decided.intent.key)
        if version is None:
            continue
        number, there = int(version.version), versions.tracker.version(versions.name, f"@{alias}")
        if there is not None and (alias == CHAMPION or int(there.version) == number):
            continue
        fault = versions.fault(version, decided.intent.body["manifest"])
        if fault:
            say(f"{versions.name}@{alias} is not set to version {number}: {fault}")
            continue
        versions.point(alias, number)
        if alias == CHAMPION:
            say(f"{versions.name}@{alias} is version {number} again")
    if CHALLENGER not in targets and versions.tracker.version(versions.name, f"@{CHALLENGER}"):
        versions.client.delete_registered_model_alias(versions.name, CHALLENGER)
    keep(root, targets)


def keep(root: Path, targets: dict[str, Decided]) -> None:
    """Have a branch for each alias hold the dvc.lock of its version, for DVC to find its files in use."""
    runs = {run.key: run for run in store.all_runs(root)}
    prefix = git.git(root, "rev-parse", "--show-prefix").strip()
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        if alias not in targets and git.maybe(root, "rev-parse", "--verify", "--quiet", f"{BRANCH}/{alias}"):
            git.git(root, "update-ref", "-d", f"{BRANCH}/{alias}")
    for alias, decided in targets.items():
        run = runs.get(decided.intent.key)
        if run is None:
            continue
        texts = {f"{prefix}{path}": run.files[path] for path in ("dvc.yaml", "dvc.lock", "params.yaml")
                 if path in run.files}  # fmt: skip
        commit = ledger.commit_of(root, texts, f"{alias}: the data and the model of pipeline run {run.key[:12]}\n\n"
                                  "Kept by Stillroom, so that `dvc gc` leaves its files alone.", run.when)  # fmt: skip
        ref = f"{BRANCH}/{alias}"
        if git.maybe(root, "rev-parse", "--verify", "--quiet", ref) != commit:
            git.git(root, "update-ref", ref, commit)
