"""The command ``stillroom init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project.presets import PRESETS, UNKNOWN

LISTED = "\n".join(f"  {name:<15} {preset.line}" for name, preset in PRESETS.items())
HELP = f"""Make a project of your own: parameters, data and history beside the installed package.

\b
Presets:
{LISTED}
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder; git's and DVC's may be there.")],
    preset: Annotated[str, typer.Option(help="Which of the presets above it starts from.")],
    source: Annotated[
        str | None,
        typer.Option(help="Where the pictures lie: a folder, an archive, or s3://bucket/prefix.",
                     show_default="pictures/ in the project"),
    ] = None,
    licence: Annotated[str, typer.Option(help="SPDX name of the pictures' licence, or a few words.")] = UNKNOWN,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be made, and make nothing.")] = False,
) -> None:  # fmt: skip
    """See HELP."""
    from flows.project import make

    typer.echo("\n".join(make.make(folder, preset, source=source, licence=licence, dry_run=dry_run)))
