"""Commands on what is on record: `stillroom history`, `rollback`, `diff`, `lineage` and `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Folder, Json, enter

_VERSION = "NAME@ALIAS or NAME@NUMBER of the registry."


def history(
    directory: Folder = Path(),
    last: Annotated[int, typer.Option(help="So many decisions, the newest below; 0 for all.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """List what was decided about the registered model: when, which version, promoted or not, by whom and why."""
    from flows.registry import records

    records.history(enter(directory, writes=False), last=last, as_json=as_json)


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the record.", prompt=True)],
    to: Annotated[
        int | None,
        typer.Option(
            help="Number of a version that was champion before.", min=1, show_default="the one before the champion"
        ),
    ] = None,
    directory: Folder = Path(),
) -> None:
    """Move alias `champion` back to a version that had it before, whose bytes are checked first."""
    from flows.registry import records

    typer.echo(records.rollback(enter(directory), reason, to))


def diff(
    before: Annotated[str, typer.Argument(help=_VERSION)],
    now: Annotated[str, typer.Argument(help="The same.")],
    directory: Folder = Path(),
    as_json: Json = False,
) -> None:
    """Print what changed between two versions: data, parameters, code and scores."""
    from flows.registry import records

    records.diff(enter(directory, writes=False), before, now, as_json=as_json)


def reproduce(
    model: Annotated[str | None, typer.Argument(help=_VERSION, show_default="champion")] = None,
    directory: Folder = Path(),
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this stage, from what those before it made then; may be repeated.",
            show_default="all after collect",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Make it in this folder, which stays.", file_okay=False, show_default="a temporary one"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
) -> None:
    """Make a version again in a clean worktree and compare each byte; exit code 1 when it is not the same."""
    from flows.run import reproduce

    kept = keep.absolute() if keep else None
    raise typer.Exit(reproduce.reproduce(enter(directory), model, only=stage or (), keep=kept, dry_run=dry_run))


def lineage(
    model: Annotated[str | None, typer.Argument(help=_VERSION, show_default="champion")] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Instead: which versions saw this image, or one much like it? A file, SHA-256 or source:name."
        ),
    ] = None,
    directory: Folder = Path(),
    as_json: Json = False,
) -> None:
    """Check each link from a version to its images; exit code 1 and the first broken link when one does not hold."""
    from flows.registry import records

    raise typer.Exit(records.lineage(enter(directory, writes=False), model, image, as_json=as_json))
