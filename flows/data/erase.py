"""Erase what is kept of an image outside of the data states: facts, downloads, pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from components.collect.web import store
from components.samples import facts, looks, pack
from flows.workspace.paths import State

PAGES = (
    "reports/changes.html",
    "reports/model.html",
    "reports/decision.html",
    "reports/contract.html",
    "reports/review.html",
)
"""Pages that may show an image and that no data stage writes again."""


SHOW_NOTHING = ("pair", "candidates")
"""Kinds of facts that hold no picture, and no vector of one: numbers about two images."""


def erase_facts(state: State, rows: Sequence[dict[str, Any]]) -> int:
    """Remove all facts but those about the images in ``rows`` as they are now; returns how many records there were.

    To be called when the data stages are up to date: stage `profile` knows a picture by the pixels in the pack.
    """
    stay = {facts.key(row["sha256"], row["matte"]) for row in rows}
    pixels = state.root / "data/pixels"
    if (pixels / "header.json").is_file():
        header = pack.read_header(pixels)
        for row, data in enumerate(pack.read_rows(pixels, header, range(header.rows))):
            shape = header.spec.shaped(header.shape(row)).stored_shape
            stay.add(facts.key(str(shape), hashlib.sha256(data).hexdigest()))
            stay.add(looks.names([data], shape).tobytes())
    return facts.keep_only(state.folder / "facts", facts.keys(sorted(stay)), beside=SHOW_NOTHING)


def erase_downloads(state: State, names: set[str]) -> int:
    """Overwrite the downloaded bytes of images in every source's store; returns how many addresses had them."""
    count = 0
    for folder in sorted((state.folder / "collect").glob("*/")):
        if (folder / store.JOURNAL).is_file():
            with store.Writer(folder, name=folder.name) as writer:
                count += writer.erase(names)
    return count


def remove_pages(state: State) -> list[str]:
    """Remove the pages that may show a withdrawn image; those that were there.  `stillroom run` makes them again."""
    there = [page for page in PAGES if (state.root / page).is_file()]
    for page in there:
        (state.root / page).unlink()
    return there
