"""What the gate decides on, read from the files of a registered version: plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError

_AGAIN = "evaluate and register this version again"


def candidate(folder: Path) -> dict[str, Any]:
    """``scores``, ``samples`` and ``held_out`` of the version in ``folder``; UserError when one is missing or damaged.

    The last two are the rows of its tables (:mod:`components.samples.drawn`).
    """
    from components.samples import drawn

    for name in (drawn.SAMPLES_FILE, drawn.HELD_OUT_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing: {_AGAIN}")
    return {**champion(folder), "samples": drawn.samples(folder), "held_out": drawn.held_out(folder)}


def champion(folder: Path) -> dict[str, Any]:
    """The ``scores`` of the version in ``folder``: all that older versions hold; UserError when they are damaged."""
    return files.read_json_object(folder / "scores.json", _AGAIN)
