"""The commands ``stillroom data ...``: add, withdraw, status, diff, report, export."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows import state as states

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Add and withdraw images, see what there is and what changed, hand it on.",
    epilog="Examples: stillroom data status; stillroom data diff last now; "
    "stillroom data export --to out --format parquet",
)  # fmt: skip

Folder = Annotated[
    Path,
    typer.Option("--directory", "-C", help="Work in this checkout.", show_default="here", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print plain data (JSON) instead of lines for a reader.")]


class Layout(StrEnum):
    """What `export` writes."""

    webdataset = "webdataset"
    parquet = "parquet"
    imagefolder = "imagefolder"


class Size(StrEnum):
    """Which pixels `export` writes."""

    original = "original"
    pixels = "pixels"


class Split(StrEnum):
    """What `export` can take."""

    train = "train"
    val = "val"
    test = "test"
    quarantine = "quarantine"


_REVISION = (
    "State of the data: `now` (what lies here), `last` (the last concluded pass), a pass (8 or more digits of its "
    "key), `v3` or `models:/NAME/3` (a registered version), or a commit, branch or tag of git whose dvc.lock is meant."
)


@app.command()
def status(directory: Folder = Path(), as_json: Json = False) -> None:
    """Say what there is: images by verdict, source and split, and which data stages are stale."""
    from flows import datastatus

    found = datastatus.status(_enter(directory))
    typer.echo(json.dumps(found, indent=1) if as_json else datastatus.told(found))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help=_REVISION, metavar="BEFORE")] = "last",
    after: Annotated[str, typer.Argument(help=_REVISION, metavar="AFTER")] = "now",
    directory: Folder = Path(),
    as_json: Json = False,
    pictures: Annotated[int, typer.Option(help="Most pictures in each list of the page.", min=0, max=5000)] = 200,
) -> None:
    """Compare two states of the data: lines here, a gallery in reports/changes.html; exit code 1 if a split moved."""
    from flows import datachanges

    state = _enter(directory)
    found, names = datachanges.diff(state, before, after, pictures=pictures)
    if as_json:
        typer.echo(json.dumps({"from": names[0], "to": names[1], **found.plain()}, indent=1))
    else:
        typer.echo(datachanges.told(found, names))
        typer.echo(f" gallery  {os.path.relpath(state.root / datachanges.PAGE)}")
    if found.moved:
        raise typer.Exit(1)


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="New or empty folder to write.", file_okay=False)],
    layout: Annotated[Layout, typer.Option("--format", help="How to write it.")],
    directory: Folder = Path(),
    split: Annotated[
        list[Split] | None, typer.Option(help="Split to write; may be repeated.", show_default="train, val and test")
    ] = None,
    rev: Annotated[str, typer.Option(help=_REVISION)] = "now",
    size: Annotated[
        Size, typer.Option(help="original: the files' own bytes; pixels: what training sees, as PNG.")
    ] = Size.original,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
) -> None:
    """Write the kept images with label, caption, licence, source, group and SHA-256 for other tools to read."""
    from flows import dataexport

    wanted = tuple(dict.fromkeys(each.value for each in split)) if split else ("train", "val", "test")
    request = dataexport.Request(to=to.absolute(), layout=layout.value, splits=wanted, rev=rev, size=size.value)
    typer.echo(dataexport.export(_enter(directory), request, dry_run=dry_run))


def _enter(directory: Path) -> states.State:
    state = states.find(directory)
    state.enter()
    return state
