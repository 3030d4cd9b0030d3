"""The ledger: what was made and decided, as append-only records in git, one ref each.

``refs/stillroom/runs/KEY/ID`` is a commit without parents; KEY is the key of a pipeline run (flows.dvc.engine.key),
ID the record's own hash.  So no two records share a name, a ref never moves, `git fetch` unites the records of two
machines, and worktrees write side by side.  The commit that the code came from is named by its hash and is no parent:
pushing the ledger publishes no source.  MLflow's runs, versions, tags and aliases are made from these records.

    record.json    {"format": 1, "kind", "key", "number", "when", "body"}
    files/...      of a record of kind ``run``: params.yaml, dvc.lock, the metrics ...

``number`` is one more than the highest that its writer knew, and ``when``, in seconds since 1970, no earlier than any
that it knew, whatever its clock says: what was known comes before.  The records of machines that did not know of each
other are in the order of their clocks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.pipeline import STATE
from flows.history import shape
from flows.history.git import ME, contents, git, refuse_hidden, whole
from flows.history.shape import Kind

_ALL = "refs/stillroom"
REFS = f"{_ALL}/runs"
FETCHED = f"{_ALL}/fetched"
"""Where the records of a remote come to, to be united with REFS when the next is written: `git fetch --prune`, which
many have set for good, removes whatever the remote does not have from the place that it fetches to."""
FETCH = f"{REFS}/*:{FETCHED}/*"
"""The refspec of `git fetch`: without a plus, since no record is ever replaced."""
FETCH_COMMAND = f"`git fetch origin '{FETCH}'`"  # quoted, since zsh takes a * for the name of a file
_MEND = (f"its name ends in its hash: remove its file below `git rev-parse --git-common-dir` and `git update-ref NAME "
         f"HASH`, or {FETCH_COMMAND}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record; ``id`` is the hash of its commit."""

    id: str
    kind: Kind
    key: str
    number: int
    when: int
    body: dict[str, Any] = field(hash=False)

    @property
    def order(self) -> tuple[int, int, str]:
        """Later records have a higher one."""
        return self.when, self.number, self.id


def read(root: Path) -> list[Record]:
    """Every record, oldest first."""
    refs = _refs(root)
    texts = contents(root, (f"{commit}:record.json" for commit in refs))
    return ordered(_parsed(commit, ref, text) for (commit, ref), text in zip(refs.items(), texts, strict=True))


def _refs(root: Path) -> dict[str, str]:
    """The ref of each record, by its commit: one below REFS where there is one, else one below FETCHED."""
    refuse_hidden(root, _ALL)
    listed = whole(root, "for-each-ref", "--format=%(objectname) %(refname)", FETCHED, REFS, mend=_MEND).splitlines()
    found: dict[str, str] = {}
    for row in sorted(listed, key=lambda row: f" {REFS}/" in row):
        commit, ref = row.split(" ", 1)
        found[commit] = ref
    return found


def unite(root: Path) -> None:
    """Keep what was fetched as this repository's own."""
    fetched = {commit: ref for commit, ref in _refs(root).items() if ref.startswith(f"{FETCHED}/")}
    if fetched:
        rows = (f"update {REFS}/{ref.removeprefix(f'{FETCHED}/')} {commit}\n" for commit, ref in fetched.items())
        git(root, "update-ref", "--stdin", stdin="".join(rows).encode())


def ordered(records: Iterable[Record]) -> list[Record]:
    """``records`` in the order in which they were made."""
    return sorted(records, key=lambda record: record.order)


def append(
    root: Path, known: Iterable[Record], kind: Kind, key: str, body: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> Record:  # fmt: skip
    """Write a record after those that are ``known``; it is whole and on record, or not there."""
    unite(root)
    known = list(known)
    when = max([int(time.time()), *(record.when for record in known)])
    number = 1 + max((record.number for record in known), default=0)
    return write(root, kind, key, number, when, body, files)


def write(
    root: Path, kind: Kind, key: str, number: int, when: int, body: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> Record:  # fmt: skip
    """Write a record whose place in the order is given; the same record again changes nothing."""
    said = {"format": 1, "kind": kind, "key": key, "number": number, "when": when, "body": dict(body)}
    texts = {"record.json": (json.dumps(said, indent=1, sort_keys=True) + "\n").encode()}
    shape.checked(texts["record.json"])  # what could not be read again is a bug here, and stops every later command
    texts |= {f"files/{path}": content for path, content in (files or {}).items()}
    message = f"{kind} {key[:12]}"
    commit = commit_of(root, texts, message, when)
    git(root, "update-ref", f"{REFS}/{key}/{commit}", commit)
    return Record(id=commit, kind=kind, key=key, number=number, when=when, body=dict(body))


def commit_of(root: Path, texts: Mapping[str, bytes], message: str, when: int) -> str:
    """A commit without parents that holds ``texts`` by path; the same arguments give the same commit."""
    index = root / STATE / f"index-{time.monotonic_ns()}"
    index.parent.mkdir(exist_ok=True)
    own = {"GIT_INDEX_FILE": str(index)}
    rows = []
    for path, content in sorted(texts.items()):
        blob = git(root, "hash-object", "-w", "--stdin", stdin=content).strip()
        rows.append(f"100644 {blob}\t{path}\n")
    try:
        git(root, "read-tree", "--empty", extra=own)
        git(root, "update-index", "--add", "--index-info", stdin="".join(rows).encode(), extra=own)
        tree = git(root, "write-tree", extra=own).strip()
    finally:
        index.unlink(missing_ok=True)
    dated = {f"GIT_{role}_DATE": f"@{when} +0000" for role in ("AUTHOR", "COMMITTER")}
    return git(root, "commit-tree", tree, "-m", message, extra={**ME, **dated}).strip()


def files(root: Path, records: Iterable[Record]) -> Iterator[dict[str, bytes]]:
    """The files of each of ``records``, by path."""
    found = list(records)
    asked = [(at, path, f"{record.id}:{record.body.get('prefix', 'files/')}{path}")
             for at, record in enumerate(found) for path in record.body.get("files", ())]  # fmt: skip
    held: list[dict[str, bytes]] = [{} for _ in found]
    for (at, path, name), content in zip(asked, contents(root, [name for _, _, name in asked]), strict=True):
        if content is None:
            raise UserError(f"the ledger has lost {name}: fetch it again: {FETCH_COMMAND}")
        held[at][path] = content
    yield from held


def _parsed(commit: str, ref: str, text: bytes | None) -> Record:
    if text is None:
        raise UserError(f"{ref}: not a record, or git has lost it, or may not read it: `git fsck` says which, "
                        f"{FETCH_COMMAND} gets it again")  # fmt: skip
    try:
        said = shape.checked(text)
        record = Record(id=commit, kind=said["kind"], key=said["key"], number=said["number"], when=said["when"],
                        body=said["body"])  # fmt: skip
        if ref not in (f"{REFS}/{record.key}/{commit}", f"{FETCHED}/{record.key}/{commit}"):
            raise ValueError("its name is not its hash")
    except ValueError as error:
        raise UserError(f"{ref}: not a record of this version of Stillroom ({error}): "
                        f"fetch the ledger again, or `git update-ref -d {ref}`") from None  # fmt: skip
    return record
