"""`stillroom backfill`: run the pipeline at older commits, a worktree each, and register what comes out; nothing is
promoted.

The images are those that the commit's dvc.lock names; `collect` does not run, since sources change.  What DVC's cache
knows is taken from there: the worktrees share the checkout's.
"""

from __future__ import annotations

import configparser
import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError
from components.base.events import clock
from components.pipeline import PIPELINE
from flows.dvc import engine, schema, snapshot
from flows.history import decisions, git
from flows.history.known import History
from flows.registry import publish
from flows.run import worktree
from flows.workspace import lock
from flows.workspace.events import following
from flows.workspace.paths import State

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of a commit: the ``version`` that it gave, or the ``fault``."""

    commit: str
    version: int | None = None
    fault: str = ""


def backfill(state: State, names: Iterable[str], *, dry_run: bool = False, say: Say = print) -> list[Made]:
    """Run the pipeline at each of ``names``, commits, branches or tags; what became of each, said in one line.

    One that fails by an error of the user's stops none after it.  UserError at once for a name that is no commit.
    """
    commits = {name: git.commit(state.root, name) for name in dict.fromkeys(names)}
    for name, commit in commits.items():
        if not commit:
            raise UserError(f"{name}: no commit, branch or tag of this repository")
    if not commits:
        raise UserError("backfill: wanted one commit or more")
    made = []
    for name, commit in commits.items():
        try:
            number = _one(state, commit, dry_run=dry_run, say=say)
            made.append(Made(commit=commit, version=number))
        except UserError as error:
            made.append(Made(commit=commit, fault=str(error)))
            say(f"{name}: not made: {error}")
    return made


def _one(state: State, commit: str, *, dry_run: bool, say: Say) -> int | None:
    """The number of the version that ``commit`` gives; None for a dry run."""
    name = publish.register_params(state.root).name
    with worktree.of(state.root, commit, name="backfill") as place, worktree.apart(place):
        mine = State(place)
        mine.folder.mkdir(exist_ok=True)
        (place / ".dvc").mkdir(exist_ok=True)
        (place / ".dvc/config.local").write_text(_config(state.root))
        with lock.held(mine.lock, what="stillroom backfill", wait=True, say=say), snapshot.taken(place):
            schema.check(place)
            if not engine.lock(place):
                raise UserError(f"{commit[:12]} has no dvc.lock: nothing says which images it is about")
            engine.bring_back(place)
            stale = [each for each in engine.stale(place) if each not in _SOURCES]
            if dry_run:
                known = _registered(state.root, engine.key(engine.lock(place)), name) if not stale else None
                what = f"run {', '.join(stale)}" if stale else "run nothing"
                then = f"; it is {name} version {known}" if known else f" and register a version of {name}"
                say(f"{commit[:12]}: would {what}{then}")
                return None
            outcomes, seconds = _run(mine, say)
            number = publish.publish_beside(state, place, outcomes, seconds, say=say)
    say(f"{commit[:12]}: {name} version {number}, not compared with the champion")
    return number


_SOURCES = {stage.name for stage in PIPELINE if stage.grows}


def _config(root: Path) -> str:
    """DVC's configuration of the worktree: the checkout's own, which git does not have, and its cache."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(root / ".dvc/config.local", encoding="utf-8")
    if "cache" not in config:
        config.add_section("cache")
    config["cache"]["dir"] = str(engine.cache(root).parent.parent.resolve())
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _run(mine: State, say: Say) -> tuple[dict[str, str], Mapping[str, float]]:
    """Bring each stage after the sources up to date: how each was, and how many seconds it took."""
    outcomes, seconds = dict.fromkeys(_SOURCES, "unchanged"), {}
    log = logging.getLogger(__name__)
    for stage in PIPELINE:
        if stage.name in _SOURCES:
            continue
        began = time.monotonic()
        with following(mine.events, stage.name, log=log, metrics=lambda *_: None):
            outcomes[stage.name] = engine.reproduce(mine.root, stage, watched=mine.events)
        seconds[stage.name] = time.monotonic() - began
        say(f"{stage.name:>9}  {outcomes[stage.name]}, {clock(seconds[stage.name])}")
    return outcomes, seconds


def _registered(root: Path, key: str, name: str) -> int | None:
    """The number of the version that the run ``key`` has given, by what is on record."""
    standing = decisions.of_key(History(root).decided(name), key)
    return standing.version if standing else None
