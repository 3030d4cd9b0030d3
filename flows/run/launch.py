"""What `stillroom run`, `status`, `sync` and `promote` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.pipeline import stage
from flows.data import edited, look, merging
from flows.dvc import engine, snapshot
from flows.dvc.freshness import Freshness
from flows.registry import quick
from flows.run import child, share, summary
from flows.workspace import exits, lock, processes
from flows.workspace.paths import State


def run(
    state: State, *, force: tuple[str, ...] = (), wait: bool = True, pull: bool = False, push: bool = False
) -> None:
    """One run of the pipeline; nothing at all when nothing changed.  ``pull`` and ``push``: see flows/run/share.py."""
    for name in force:
        stage(name)
    with (
        lock.held(state.lock, what="stillroom run", wait=wait, say=exits.note) as handle,
        processes.stoppable(),
        share.around(state.root, exits.note, pull=pull, push=push),
    ):
        from flows.run import idle

        nothing = None if force else idle.found(state, exits.note)
        if nothing:
            _nothing(state, nothing.result, nothing.broken)
        else:
            _run(state, force, handle)


def _run(state: State, force: tuple[str, ...], handle: int) -> None:
    """The same after the quick look, with DVC and MLflow."""
    from flows.data import contract
    from flows.dvc import schema
    from flows.registry import publish, sign

    with snapshot.begun(state.root, exits.note):  # the process that child.run starts works from it too
        edited.check(state.root)  # before the work too: a slip of the pen is told in a moment
        schema.check(state.root)
        merging.install(state.root)
        engine.bring_back(state.root)
        look.look_at_sources(state, say=exits.note)
        stale = engine.stale(state.root)
        # A key that fails is told before the work.
        sign.signer(state.root, publish.register_params(state.root), say=exits.note)
        result = None if stale or force else publish.published(state)[0]
        if result:
            _nothing(state, result, contract.violations(state.root))
        else:
            child.run(state.root, force, lock=handle)


def _nothing(state: State, result: dict[str, Any], broken: list[str]) -> None:
    """Say that there is nothing to do; ``broken`` are the clauses of the contract that do not hold."""
    from flows.data import contract

    contract.remove_page(state.root)
    print("Nothing to do: every stage is up to date and registered.\n")
    for line in broken:
        exits.note(f"the next training would be refused: {line}")
    print(summary.of(state, result, seen_from=Path.cwd()))


def status(state: State) -> None:
    """Print what is stale and what was registered last; beside a run too, since nothing is changed or locked."""
    fresh = Freshness(state.root, state.folder / "idle.json")
    try:
        stale = fresh.stale()
        name = (fresh.sections().get("register") or {}).get("name")
        result = quick.published(state, fresh, fresh.locked(), name) if isinstance(name, str) else None
    finally:
        fresh.save()
    print(f"stale: {', '.join(stale) if stale else 'nothing'}")
    why = ""
    if result is None:
        from flows.registry import publish

        result, why = publish.published(state)
    if result:
        print(f"registered: {summary.model(result)}")
        for line in summary.waiting(result):
            print(line)
    else:
        print(f"{why[0].upper()}{why[1:]}: run `stillroom run`.")


def sync(state: State) -> None:
    """Write MLflow's runs and versions again from git and DVC."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom sync", wait=True, say=exits.note):
        count = publish.sync(state, say=print)
    print(f"{count} pipeline run(s) in MLflow" if count else "no pipeline run yet: `stillroom run` makes the first")


def promote(state: State, number: int, reason: str | None) -> None:
    """Move the alias by hand; without a reason, to a version that waits for approval."""
    from flows.registry import publish

    with lock.held(state.lock, what="stillroom promote", wait=True, say=exits.note):
        print(publish.promote(state, number, reason))
