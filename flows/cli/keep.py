"""The commands that keep house: `stillroom plan`, `verify`, `gc`, `reap` and `backfill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Folder, Json, enter


def plan(
    directory: Folder = Path(),
    force: Annotated[
        list[str] | None, typer.Option(help="Plan with this stage run although it is up to date; may be repeated.")
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Also ask DVC's remote how many bytes `run --push` would send.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print what a run would do and why, how long it took the last time and what would move; change nothing."""
    from flows.keep import plan

    found = plan.plan(enter(directory, writes=False), tuple(force or ()), push=push)
    typer.echo(json.dumps(plan.plain(found), indent=1) if as_json else "\n".join(plan.lines(found)))


def verify(directory: Folder = Path()) -> None:
    """Check every byte of every version, and each link from those with an alias to their images; exit code 1 and a line
    for each fault.
    """
    from flows.keep import verify

    if verify.verify(enter(directory, writes=False), fault=typer.echo, well=typer.echo):
        raise typer.Exit(1)


def gc(
    directory: Folder = Path(),
    keep: Annotated[int, typer.Option(help="Pipeline runs that stay, the newest.", min=1)] = 10,
    days: Annotated[
        float,
        typer.Option(help="Days for which checkpoints, facts, deleted MLflow runs and remote files stay.", min=0),
    ] = 7.0,
    remote: Annotated[
        str | None,
        typer.Option(help="Also collect in this remote of DVC's, which no other project uses.", show_default="none"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove; without it nothing is removed.")] = False,
) -> None:
    """Print what nothing needs any more in the registry, DVC's cache and run state, and with --yes remove it."""
    from flows.keep import gc

    gc.gc(enter(directory), keep=keep, days=days, remote=remote, yes=yes)


def reap(directory: Folder = Path()) -> None:
    """Close the runs that nobody works on any more, in Prefect and in MLflow; a living one is left alone."""
    from flows.keep import reap

    count = reap.by_hand(enter(directory), typer.echo)
    typer.echo(f"closed {count} run(s)" if count else "nothing to close")


def backfill(
    commit: Annotated[list[str], typer.Argument(help="Commits, branches or tags.")],
    directory: Folder = Path(),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print which stages would run at each commit, and run none.")
    ] = False,
) -> None:
    """Run the pipeline at older commits, a worktree each, and register the models without promoting one."""
    from flows.keep import backfill
    from flows.workspace.processes import stoppable

    with stoppable():
        made = backfill.backfill(enter(directory), commit, dry_run=dry_run, say=typer.echo)
    if any(one.fault for one in made):
        raise typer.Exit(1)
