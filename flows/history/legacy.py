"""Records that older versions kept as a chain of commits on ``refs/stillroom/passes``: read, never written.

A chain could be lost to a forced fetch and torn by two writers at once, and its commits had the source's as parents.
Its decisions hold no version number and no manifest hash: `stillroom sync` takes both from MLflow where it has them.
"""

from __future__ import annotations

import json
from pathlib import Path

from flows.history import git as calls
from flows.history.ledger import Record

REF = "refs/stillroom/passes"
_ABOUT = "pass/about.json"


def records(root: Path) -> list[Record]:
    """The chain as records of the ledger, all before the first that was written as one."""
    if not calls.maybe(root, "rev-parse", "--verify", "--quiet", REF):
        return []
    rows = calls.git(root, "log", "--reverse", "--format=%H %ct", REF, "--", _ABOUT).split()
    commits = list(zip(rows[::2], map(int, rows[1::2]), strict=True))
    found: list[Record] = []
    texts = calls.contents(root, (f"{commit}:{_ABOUT}" for commit, _ in commits))
    for at, ((commit, when), text) in enumerate(zip(commits, texts, strict=True)):
        about = json.loads(text or b"{}")
        key, number = about.get("key", ""), at - len(commits)
        decision = about.pop("decision", None)
        listed = calls.git(root, "ls-tree", "-r", "--name-only", commit).splitlines()
        body = {**about, "files": [path for path in listed if path != _ABOUT], "prefix": ""}
        found.append(Record(id=commit, kind="run", key=key, number=number, when=when, body=body))
        if decision:
            found += _decided(commit, key, number, when, decision)
    return found


def _decided(commit: str, key: str, number: int, when: int, decision: dict[str, object]) -> list[Record]:
    intent = {"name": None, "version": None, "manifest": None, "expected": None, "decision": decision, "by": "gate"}
    result = "promoted" if decision.get("promote") else "held"
    return [
        Record(id=f"{commit}-intent", kind="intent", key=key, number=number, when=when, body=intent),
        Record(id=f"{commit}-outcome", kind="outcome", key=key, number=number, when=when,
               body={"intent": f"{commit}-intent", "result": result}),
    ]  # fmt: skip
