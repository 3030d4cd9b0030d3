"""The commands ``stillroom data ...``: add, withdraw, status, diff, report, export; those of curators are beside."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli import curate
from flows.cli.options import Folder, Json, enter
from flows.workspace import exits

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Add and withdraw images, overrule what was found of them, show what there is and what changed, export it.",
    epilog="Examples: stillroom data status; stillroom data diff last now; "
    "stillroom data export --to out --format parquet",
)  # fmt: skip


Kind = Literal["files", "urls", "parquet", "webdataset"]
Layout = Literal["webdataset", "parquet", "imagefolder"]


class Split(StrEnum):
    """Splits that `export` takes; no Literal, since typer takes no list of those."""

    train = "train"
    val = "val"
    test = "test"
    quarantine = "quarantine"


_REVISION = (
    "State of the data: `now` (the working tree), `last` (the last published pipeline run), a pipeline run (8 or more "
    "digits of its key), `v3` or `models:/NAME/3` (a registered version), or a git commit, branch or tag."
)


@app.command()
def add(
    location: Annotated[
        str, typer.Argument(help="Folder, archive, list of URLs, Parquet or WebDataset; a path, or s3://bucket/prefix.")
    ],
    name: Annotated[str, typer.Option(help="Name of the source in every table; unique.")],
    licence: Annotated[str, typer.Option(help="SPDX name of the images' licence, or a few words.")],
    directory: Folder = Path(),
    matte: Annotated[str, typer.Option(help="Colour behind transparent pixels, #rrggbb.")] = "#ffffff",
    kind: Annotated[
        Kind | None, typer.Option(help="Kind of source.", show_default="detected from the location, and printed")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with captions.", show_default="none")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with labels.", show_default="none; for files the folder's name")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column whose equal values stay in one split.", show_default="none")
    ] = None,
    url_column: Annotated[
        str | None, typer.Option(help="Column with the addresses.", show_default="url; none for a txt")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column with the images.", show_default="the first that can hold images")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is there, and write nothing.")] = False,
) -> None:
    """Append a source to params.yaml, having checked that it holds images; none is imported yet."""
    from flows.data import add
    from flows.workspace import lock

    state = enter(directory)
    request = add.Request(
        location=location, name=name, licence=licence, matte=matte.lower(), kind=kind,
        text_column=text_column, label_column=label_column, group_column=group_column, url_column=url_column,
        image_column=image_column,
    )  # fmt: skip
    with lock.held(state.lock, what="stillroom data add", wait=True, say=exits.note):
        typer.echo("\n".join(add.add(state, request, dry_run=dry_run)))


@app.command()
def withdraw(
    reason: Annotated[str, typer.Option(help="Why, for the record; everybody can read it.")],
    image: Annotated[
        list[str] | None,
        typer.Argument(
            help="SHA-256, 8 or more of its first digits, or source:name.", metavar="[IMAGE]...", show_default=False
        ),
    ] = None,
    directory: Folder = Path(),
    listed: Annotated[
        Path | None, typer.Option("--list", help="File with one image a line, as above; lines with # are comments.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Every image that this source ever held.")] = None,
    purge: Annotated[
        bool,
        typer.Option(help="Also remove what may hold them: older states from DVC's cache here, reports from MLflow."),
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be erased, and change nothing.")] = False,
) -> None:
    """Erase images for good: bytes, pixels, thumbnails, older states. No other image changes its place or split."""
    from flows.data import withdraw

    request = withdraw.Request(words=tuple(image or ()), listed=listed, source=source, reason=reason, dry_run=dry_run,
                                 purge=purge)  # fmt: skip
    withdraw.withdraw(enter(directory), request, say=exits.note, sure=(lambda _: True) if yes else curate.sure)


for command in curate.COMMANDS:
    app.command()(command)


@app.command()
def status(directory: Folder = Path(), as_json: Json = False) -> None:
    """Print the images by verdict, source and split, and which data stages are stale."""
    from flows.data import status

    found = status.status(enter(directory, writes=False))
    typer.echo(json.dumps(found, indent=1) if as_json else status.lines(found))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help=_REVISION, metavar="BEFORE")] = "last",
    after: Annotated[str, typer.Argument(help=_REVISION, metavar="AFTER")] = "now",
    directory: Folder = Path(),
    as_json: Json = False,
    pictures: Annotated[int, typer.Option(help="Pictures in each list of the page, at most.", min=0, max=5000)] = 200,
) -> None:
    """Compare two states of the data: text here, a gallery in reports/changes.html; exit code 1 if a split moved."""
    from flows.data import diff

    state = enter(directory)
    found, names = diff.diff(state, before, after, pictures=pictures)
    if as_json:
        typer.echo(json.dumps({"from": names[0], "to": names[1], **found.plain()}, indent=1))
    else:
        typer.echo(diff.lines(found, names))
        typer.echo(f"Gallery: {os.path.relpath(state.root / diff.PAGE)}")
    if found.moved:
        raise typer.Exit(1)


@app.command()
def report(directory: Folder = Path()) -> None:
    """Bring the data stages up to date, without training, and print where reports/data.html and changes.html are."""
    from flows.data import materialise
    from flows.workspace import lock

    state = enter(directory)
    with lock.held(state.lock, what="stillroom data report", wait=True, say=exits.note):
        typer.echo(materialise.report(state, say=exits.note))


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="New or empty folder to write.", file_okay=False)],
    layout: Annotated[Layout, typer.Option("--format", help="File format.")],
    directory: Folder = Path(),
    split: Annotated[
        list[Split] | None, typer.Option(help="Split to write; may be repeated.", show_default="train, val and test")
    ] = None,
    rev: Annotated[str, typer.Option(help=_REVISION)] = "now",
    size: Annotated[
        Literal["original", "stripped", "pixels"],
        typer.Option(
            help="original: the files' own bytes; stripped: these without GPS, EXIF, XMP, IPTC and comments; "
            "pixels: what training sees, as PNG."
        ),
    ] = "original",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export at --to.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written, and write nothing.")] = False,
) -> None:
    """Export the kept images with label, caption, licence, source, group and SHA-256 for other tools."""
    from flows.data import export

    wanted = tuple(dict.fromkeys(each.value for each in split)) if split else ("train", "val", "test")
    request = export.Request(to=to.absolute(), layout=layout, splits=wanted, rev=rev, size=size, overwrite=overwrite)
    typer.echo(export.export(enter(directory), request, dry_run=dry_run))
