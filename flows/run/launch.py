"""What `stillroom run`, `status`, `sync` and `promote` do."""

from __future__ import annotations

from pathlib import Path

from components.pipeline import PIPELINE, stage
from flows.data import edited, look, merging
from flows.dvc import engine, fetch, schema, snapshot
from flows.dvc.freshness import Freshness
from flows.run import child, share, summary
from flows.workspace import exits, lock, processes
from flows.workspace.paths import State


def run(
    state: State, *, dry_run: bool, force: tuple[str, ...], wait: bool, pull: bool = False, push: bool = False
) -> None:
    """One run of the pipeline; nothing at all when nothing changed.  ``pull`` and ``push``: see flows/run/share.py."""
    for name in force:
        stage(name)
    if dry_run:
        _plan(state, force)
        return
    with (
        lock.held(state.lock, what="stillroom run", wait=wait, say=exits.note) as handle,
        processes.stoppable(),
        share.around(state.root, exits.note, pull=pull, push=push),
        snapshot.begun(state.root, exits.note),  # the process that child.run starts works from it too
    ):
        edited.check(state.root)  # before the work too: a slip of the pen is told in a moment
        schema.check(state.root)
        merging.install(state.root)
        engine.bring_back(state.root)
        look.look_at_sources(state, say=exits.note)
        stale = engine.stale(state.root)
        from flows.data import contract
        from flows.registry import publish, sign

        # A key that fails is told before the work.
        sign.signer(state.root, publish.register_params(state.root), say=exits.note)
        result = None if stale or force else publish.published(state)[0]
        if result:
            contract.remove_page(state.root)
            print("Nothing to do: every stage is up to date and registered.\n")
            for line in contract.violations(state.root):
                exits.note(f"the next training would be refused: {line}")
            print(summary.of(state, result, seen_from=Path.cwd()))
        else:
            child.run(state.root, force, lock=handle)


def status(state: State) -> None:
    """Print what is stale and what was registered last; beside a run too, since nothing is changed or locked."""
    from flows.registry import publish

    stale = _stale(state)
    print(f"stale: {', '.join(stale) if stale else 'nothing'}")
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


def _plan(state: State, force: tuple[str, ...]) -> None:
    """Print what a run would do; like `status` it changes and locks nothing."""
    from flows.data import contract

    edited.check(state.root)
    schema.check(state.root)
    stale = _stale(state, also=("collect",) if look.sources_changed(state, say=exits.note) else ())
    names = [entry.name for entry in PIPELINE if entry.name in stale or entry.name in force]
    lacking = fetch.missing(state.root) if (state.root / "dvc.lock").is_file() else []
    if lacking:
        print(f"not here: {', '.join(lacking)}; a run first looks for them in DVC's cache and its remote")
    print("would run: " + ", ".join(names) if names else "would run nothing: every stage is up to date")
    if "train" not in names:
        return
    if "profile" in names:
        print("would check the contract on the new data before training")
        return
    bad = contract.violations(state.root)
    print(f"would stop before training: {'; '.join(bad)}" if bad else "contract: holds")


def _stale(state: State, *, also: tuple[str, ...] = ()) -> list[str]:
    fresh = Freshness(state.root, state.folder / "fresh.json")
    try:
        return fresh.stale(also=also)
    finally:
        fresh.save()
