"""What several commands share: their options, and entering the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.workspace.paths import State, find

Folder = Annotated[
    Path,
    typer.Option("--directory", "-C", help="Work in this checkout.", show_default="here", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def enter(directory: Path, *, writes: bool = True) -> State:
    """The checkout that ``directory`` lies in, its environment set; without ``writes`` one that is only read."""
    state = find(directory)
    state.enter(writes=writes)
    return state
