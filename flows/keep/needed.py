"""What has to stay: the pipeline runs that are kept, and every hash that they, a branch, a tag or a worktree name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError
from flows.dvc import engine, objects
from flows.history import git
from flows.history.known import History
from flows.history.store import PipelineRun

_REFS = ("refs/heads", "refs/remotes", "refs/tags", "refs/stash")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """``keys`` of the pipeline runs that are kept and the DVC hashes that something names; ``lines`` say by what."""

    keys: set[str]
    digests: set[str]
    lines: list[str]


def find(root: Path, history: History, *, keep: int, named: Iterable[str]) -> Needed:
    """What the last ``keep`` runs, those with a key in ``named``, branches, tags and worktrees need.

    UserError where a file of DVC in one of them cannot be read: what is not known is not removed.
    """
    keys, digests = set(named), set[str]()
    tips = _tips(root)
    texts = _texts(root, tips)
    places = worktrees(root)
    for where, text in (*texts, *(found for place in places for found in _here(place))):
        digests |= objects.named(text, where)
        if where.endswith("dvc.lock"):
            with contextlib.suppress(LookupError, TypeError, AttributeError):  # one that is not a whole run's
                keys.add(engine.key(engine.parse_lock(text)))
    keys |= {run.key for run in history.runs[-keep:]} if keep else set()
    runs = [run for run in history.runs if run.key in keys]
    for run in runs:
        digests |= objects.named(run.files["dvc.lock"].decode(), f"pipeline run {run.key[:8]}")
    digests |= _started(root, runs)
    lines = [f"the last {keep} of {len(history.runs)} pipeline runs, the versions with an alias or tag stillroom.keep",
             f"what {len(tips)} branches and tags name, and what lies in {len(places)} worktree(s)"]  # fmt: skip
    return Needed(keys=keys, digests=digests, lines=lines)


def worktrees(root: Path) -> list[Path]:
    """The checkout's place in each worktree of the repository that is there, its own first."""
    prefix = git.git(root, "rev-parse", "--show-prefix").strip()
    rows = git.git(root, "worktree", "list", "--porcelain", "-z").split("\0")
    found = [Path(row.removeprefix("worktree ")) / prefix for row in rows if row.startswith("worktree ")]
    return [root, *(place for place in found if place.is_dir() and place.resolve() != root.resolve())]


def _tips(root: Path) -> list[str]:
    """The commits that a branch, a tag, the stash or a worktree stands on."""
    names = git.git(root, "for-each-ref", "--format=%(refname)", *_REFS).split()
    heads = [git.commit(place) for place in worktrees(root)]
    found = {commit: None for name in names if (commit := git.commit(root, name))}
    return list(found | {commit: None for commit in heads if commit})


def _texts(root: Path, commits: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The files of DVC in ``commits``, each content once: where it is and its text."""
    blobs: dict[str, str] = {}
    for commit in commits:
        for row in git.git(root, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
            about, _, path = row.partition("\t")
            if _of_dvc(path) and " blob " in about:
                blobs.setdefault(about.split()[2], f"{commit[:12]}:{path}")
    for where, text in zip(blobs.values(), git.contents(root, blobs), strict=True):
        if text is None:
            raise UserError(f"{where}: git has lost it: `git fsck`; nothing was removed")
        yield where, text.decode()


def _here(place: Path) -> Iterator[tuple[str, str]]:
    """The files of DVC in a worktree as they lie there, with what dvc.lock was before DVC began to write it."""
    listed = git.git(place, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.dvc", "*dvc.lock")
    for name in {"dvc.lock", *(name for name in listed.split("\0") if _of_dvc(name))}:
        if (place / name).is_file():
            yield str(place / name), (place / name).read_text("utf-8")


def _of_dvc(path: str) -> bool:
    name = Path(path).name
    return name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc")


def _started(root: Path, runs: Iterable[PipelineRun]) -> set[str]:
    """The networks that the trainings of ``runs`` started from, as the commits of these name them."""
    names = [f"{run.commit}:./data/start.dvc" for run in runs
             if run.commit and run.files.get("data/start.json", b"null").strip() != b"null"]  # fmt: skip
    found = set[str]()
    for name, text in zip(names, git.contents(root, names), strict=True):
        found |= objects.named(text.decode(), name) if text else set()
    return found
