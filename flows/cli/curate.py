"""The commands of ``stillroom data`` with which a curator overrules: keep, reject, label, decide, decisions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from components.samples.decisions import Kind
from flows.cli.options import Folder, Json, enter
from flows.workspace import exits

Images = Annotated[
    list[str] | None,
    typer.Argument(
        help="SHA-256, 8 or more of its first digits, or source:name.", metavar="[IMAGE]...", show_default=False
    ),
]
Listed = Annotated[
    Path | None, typer.Option("--list", help="File with one image a line, as above; lines with # are comments.")
]
Reason = Annotated[str, typer.Option(help="Why, for the record; everybody can read it.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take back such a decision: the rule, or the source, holds again.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be decided, and change nothing.")]


def sure(question: str) -> bool:
    """Ask at the terminal."""
    return typer.confirm(question, err=True)


def keep(
    reason: Reason, image: Images = None, directory: Folder = Path(), listed: Listed = None, undo: Undo = False,
    yes: Yes = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Keep images that a rule rejected as a duplicate, a near duplicate or too small; each stays in its group."""
    _decide("keep", image, directory, listed, reason=reason, undo=undo, yes=yes, dry_run=dry_run)


def reject(
    reason: Reason, image: Images = None, directory: Folder = Path(), listed: Listed = None, undo: Undo = False,
    yes: Yes = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Reject images that are kept; copies of them go too, also those that come later."""
    _decide("reject", image, directory, listed, reason=reason, undo=undo, yes=yes, dry_run=dry_run)


def label(
    reason: Reason, image: Images = None, directory: Folder = Path(), listed: Listed = None,
    to: Annotated[str | None, typer.Option(help="The new label; it may be one that no image had.")] = None,
    undo: Undo = False, yes: Yes = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Give images another label than their source does."""
    if (to is None) != undo:
        raise typer.BadParameter("wanted --to LABEL, or --undo for that of the source")
    _decide("label", image, directory, listed, to=to, reason=reason, undo=undo, yes=yes, dry_run=dry_run)


def decide(
    file: Annotated[Path, typer.Argument(help="Decisions that the review page made.", dir_okay=False)],
    directory: Folder = Path(), yes: Yes = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Take in the decisions of a review page (`stillroom data review --page`): all of them, or none."""
    from flows.data import decide

    decide.take_in(enter(directory), file.absolute(), dry_run=dry_run, say=exits.note, sure=_asked(yes))


def review(
    directory: Folder = Path(),
    page: Annotated[
        bool, typer.Option("--page", help="Write the page to reports/review.html instead, and serve nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1; 0: a free one.", min=0, max=65535)] = 0,
    pictures: Annotated[
        int, typer.Option(help="Pictures in each section of the page, at most.", min=2, max=5000)
    ] = 200,
) -> None:
    """Open a page on which you keep, reject and label by clicks; each is put on record at once."""
    from flows.data import review

    state = enter(directory)
    if page:
        typer.echo(f"Page: {os.path.relpath(review.write(state, pictures=pictures))}")
    else:
        review.serve(state, pictures=pictures, port=port)


def decisions(directory: Folder = Path(), as_json: Json = False) -> None:
    """Print the decisions that hold and what came of each, the newest last."""
    from flows.data import decide

    found = decide.listed(enter(directory, writes=False).root)
    typer.echo(json.dumps(found, indent=1) if as_json else decide.lines(found))


def _asked(yes: bool) -> Callable[[str], bool]:
    return (lambda _: True) if yes else sure


def _decide(
    kind: Kind, image: list[str] | None, directory: Path, listed: Path | None, *, to: str | None = None, reason: str,
    undo: bool, yes: bool, dry_run: bool,
) -> None:  # fmt: skip
    from flows.data import decide

    request = decide.Request(kind=kind, words=tuple(image or ()), listed=listed, label=to, undo=undo, reason=reason,
                             dry_run=dry_run)  # fmt: skip
    decide.decide(enter(directory), request, say=exits.note, sure=_asked(yes))


COMMANDS = (keep, reject, label, review, decide, decisions)
