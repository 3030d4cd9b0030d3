"""Erase what is kept of an image outside of the data states: facts, downloads, pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from components.collect.web import store
from components.samples import facts, pack
from flows.workspace.paths import State

PAGES = ("reports/changes.html", "reports/model.html", "reports/decision.html", "reports/contract.html")
"""Pages that may show an image and that no data stage writes again."""


def fact_keys(state: State, rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """The keys of all facts about the images in ``rows``; to be asked while their pixels are still there."""
    found = {facts.key(row["sha256"], row["matte"]) for row in rows}
    names = {row["sha256"] for row in rows}
    pixels = state.root / "data/pixels"
    if (pixels / "header.json").is_file():
        header = pack.read_header(pixels)
        wanted = [row for row, name in enumerate(pack.read_keys(pixels)) if name in names]
        for data in pack.read_rows(pixels, header, wanted):  # stage `profile` knows a picture by what it shows
            found.add(facts.key(str(header.spec.stored_shape), hashlib.sha256(data).hexdigest()))
    return sorted(found)


def erase_facts(state: State, keys: Sequence[bytes]) -> int:
    """Remove the facts under ``keys`` from every store; returns how many records there were."""
    return facts.forget_everywhere(state.folder / "facts", facts.keys(keys))


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
