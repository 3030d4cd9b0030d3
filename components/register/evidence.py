"""What the gate decides on, read from the files of a registered version: plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.samples import latents

_AGAIN = "evaluate and register this version again"


def candidate(folder: Path) -> dict[str, Any]:
    """``scores``, ``classes``, ``samples``, ``held_out`` and ``licences`` of the version in ``folder``.

    UserError for a damaged one.  Samples and held-out images are the rows of its tables
    (:mod:`components.samples.drawn`); licences are those of the sources that its manifest names.
    """
    from components.samples import drawn

    for name in (drawn.SAMPLES_FILE, drawn.HELD_OUT_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing: {_AGAIN}")
    manifest = files.read_json_object(folder / "MANIFEST.json", _AGAIN)
    return {
        **champion(folder), "samples": drawn.samples(folder), "held_out": drawn.held_out(folder),
        "licences": {source["name"]: source["licence"] for source in manifest.get("sources", [])},
    }  # fmt: skip


def same_space(candidate: Path, champion: Path) -> None:
    """UserError unless the versions in both folders are of pixels, or of latents of one autoencoder.

    An x0 error of one space says nothing beside one of another.
    """
    ours, theirs = (
        latents.of_notes(files.read_json_object(folder / "stillroom.json", _AGAIN)) for folder in (candidate, champion)
    )
    if ours != theirs:
        raise UserError(f"it was trained on {latents.words(ours)}, the champion on {latents.words(theirs)}, and x0 "
                        "errors of different spaces cannot be compared")  # fmt: skip


def champion(folder: Path) -> dict[str, Any]:
    """The ``scores`` and ``classes`` of the version in ``folder``; UserError when they are damaged.

    It is all that older versions hold.
    """
    scores, notes = (files.read_json_object(folder / name, _AGAIN) for name in ("scores.json", "stillroom.json"))
    return {**scores, "classes": [str(name) for name in notes.get("classes") or ()]}
