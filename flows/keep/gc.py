"""`stillroom gc`: one garbage collection over the registry, DVC's cache and remote, run state and git's refs.

Each part is found anew by what is needed (flows/keep/needed.py), and may be removed twice: killed meanwhile, the next
call goes on.  Versions go first, which is put on record, then the data that only they needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.html.page import plural, size
from flows.dvc import engine, objects
from flows.history import decisions, git, ledger
from flows.history.known import History
from flows.keep import needed, remains
from flows.keep.needed import Needed
from flows.keep.remains import Item
from flows.registry import aliases, restore, settle
from flows.registry.mlflow import RUN_KEY, Tracker, explained
from flows.registry.publish import register_params
from flows.registry.versions import Versions
from flows.workspace import lock
from flows.workspace.paths import State

KEEP = "stillroom.keep"
"""Tag of a version in MLflow, of any value: it stays, with all that it needs."""
Say = Callable[[str], None]


def gc(
    state: State, *, keep: int = 10, days: float = 7.0, remote: str | None = None, yes: bool = False, say: Say = print
) -> int:
    """Say what can go, and with ``yes`` remove it; how many bytes that are.

    What stays: the last ``keep`` pipeline runs, and what an alias, tag KEEP, a branch, a git tag or a worktree needs.
    ``days``: what was used since then stays too, of checkpoints, facts and the objects of DVC's ``remote``, which is
    looked at only where it is named.
    """
    if remote:
        _fetch(state.root, say)
    with _alone(state, say):
        root = state.root
        with explained(os.environ["MLFLOW_TRACKING_URI"]):
            versions = _versions(state)
            stays, every = _needed(root, versions, keep), []
            if versions is not None:
                every += list(_old_versions(versions, stays))
                every += list(_deleted_runs(versions.tracker, days))
            every += list(_objects(root, stays, remote, days, say))
            every += list(remains.find(state, days=days))
            for item in every:
                say(f"{'removing' if yes else 'would remove'} {size(item.bytes)}: {item.what}")
                if yes:
                    item.remove()
        total = sum(item.bytes for item in every)
        say(f"stays: {'; '.join(stays.lines)}")
        if not every:
            say("nothing to remove")
        elif yes:
            say(f"removed {size(total)}")
        else:
            say(f"nothing was removed: `stillroom gc --yes` would free {size(total)}")
    return total


@contextlib.contextmanager
def _alone(state: State, say: Say) -> Iterator[None]:
    """Wait for who works in this checkout, in a worktree with the same cache or on the ledger, and keep them out."""
    what, mine = "stillroom gc", engine.cache(state.root).resolve()
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.held(state.lock, what=what, wait=True, say=say))
        for place in needed.worktrees(state.root)[1:]:
            other = State(place)
            if other.folder.is_dir() and engine.cache(place).resolve() == mine:
                where = f"in {place}"
                stack.enter_context(lock.held(other.lock, what=what, wait=True, say=say, where=where))
        stack.enter_context(settle.alone(state.root, what=what, say=say))
        yield


def _fetch(root: Path, say: Say) -> None:
    """Bring branches, tags and records: what another machine made has to count before their remote is looked at."""
    for name in git.git(root, "remote").split():
        say(f"fetching branches, tags and records of {name}")
        git.git(root, "fetch", "--quiet", "--tags", name)
        git.git(root, "fetch", "--quiet", name, ledger.FETCH)


def _versions(state: State) -> Versions | None:
    """The registry; None where there is none."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return None
    return Versions(Tracker(state, uri), register_params(state.root).name)


def _needed(root: Path, versions: Versions | None, keep: int) -> Needed:
    history = versions.history if versions is not None else History(root)
    named = {one.intent.key for one in aliases.wanted(history.decided(register_params(root).name)).values()}
    if versions is not None:
        named |= set(_named(versions))
    return needed.find(root, history, keep=keep, named=named)


def _named(versions: Versions) -> Iterator[str]:
    """The keys of versions that somebody asks for: by an alias or tag KEEP; those under other names all."""
    for model in versions.client.search_registered_models():
        every = versions.client.search_model_versions(f"name = '{model.name}'")
        pointed = {int(number) for number in model.aliases.values()}
        for version in every:
            if model.name != versions.name or int(version.version) in pointed or KEEP in version.tags:
                yield version.tags.get(RUN_KEY, "")


def _old_versions(versions: Versions, stays: Needed) -> Iterator[Item]:
    """Versions that are on record here and that nobody asks for, and their files; it goes on record that they went."""
    recorded = decisions.standing(versions.decided)
    sources = {version.source for version in versions.all() if version.tags.get(RUN_KEY) in stays.keys}
    for version in versions.all():
        key = version.tags.get(RUN_KEY, "")
        if key in stays.keys or key not in recorded:
            continue
        folder = versions.tracker.local_folder(version.source) if version.source not in sources else None
        held = remains.size(folder) if folder is not None and folder.is_dir() else 0

        def remove(version: Any = version, key: str = key, source: str = version.source) -> None:
            versions.client.delete_model_version(versions.name, version.version)
            if source not in sources:
                versions.tracker.erase(source)
            restore.deleted(versions, recorded[key], say=lambda _: None)

        yield Item(what=f"{versions.name} version {version.version}: no alias, older than the runs that stay",
                   bytes=held, remove=remove)  # fmt: skip


def _deleted_runs(tracker: Tracker, days: float) -> Iterator[Item]:
    """MLflow's runs that were deleted, which it keeps for somebody to restore them."""
    for run_id, folder in tracker.deleted(days):
        held = remains.size(folder) if folder.is_dir() else 0
        yield Item(what=f"MLflow run {run_id}, deleted more than {days:g} days ago", bytes=held,
                   remove=lambda run_id=run_id: tracker.forget(run_id))  # type: ignore[misc]  # fmt: skip


def _objects(root: Path, stays: Needed, remote: str | None, days: float, say: Say) -> Iterator[Item]:
    """Objects of DVC that nothing names."""
    if not engine.own_cache(root):
        say(f"not looked at: DVC's cache at {engine.cache(root)} lies outside of this checkout, and others may use it")
    else:
        spare = list(objects.spare(root, objects.whole(root, stays.digests)))
        if spare:
            yield Item(what=f"{plural(len(spare), 'object')} in DVC's cache that nothing names any more",
                       bytes=sum(each.size for each in spare), remove=lambda: objects.remove(root, spare))  # fmt: skip
    if remote:
        there = objects.spare_there(root, remote, objects.whole(root, stays.digests, remote), days=days)
        if there:
            yield Item(what=f"{plural(len(there), 'object')} in DVC's remote '{remote}' that nothing names, {days:g} "
                       "days old", bytes=sum(each.size for each in there),
                       remove=lambda: objects.remove_there(root, remote, there))  # fmt: skip


def check(keep: int, days: float) -> None:
    """UserError for numbers that make no sense."""
    if keep < 1 or days < 0:
        raise UserError(f"gc: keep {keep}, days {days:g}: wanted keep of 1 or more, and days of 0 or more")
