"""The commands that keep house: `stillroom plan`."""

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

    found = plan.plan(enter(directory), tuple(force or ()), push=push)
    typer.echo(json.dumps(plan.plain(found), indent=1) if as_json else "\n".join(plan.lines(found)))
