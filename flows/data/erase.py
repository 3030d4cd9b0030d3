"""Where an image leaves traces outside of the data states, and how they go."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.collect.web import store as urlstore
from components.samples import facts, pack
from flows.workspace.paths import State

PAGES = ("reports/changes.html", "reports/model.html", "reports/contract.html")
"""What may show an image and is not made anew by the data stages."""


def fact_keys(state: State, rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """Whatever facts of the images in ``rows`` may be kept under; asked before their pixels are gone."""
    found = {facts.key(row["sha256"], row["matte"]) for row in rows}
    names = {row["sha256"] for row in rows}
    pixels = state.root / "data/pixels"
    if (pixels / "header.json").is_file():
        header = pack.read_header(pixels)
        wanted = [row for row, name in enumerate(pack.read_keys(pixels)) if name in names]
        shape = (header.side, header.side, header.channels)
        for row in wanted:  # stage `profile` knows a picture by what it shows
            found.add(facts.key(str(shape), hashlib.sha256(_pixels(pixels, header, row)).hexdigest()))
    return sorted(found)


def forget_facts(state: State, keys: Sequence[bytes]) -> int:
    """Remove what is kept under ``keys`` from every store of facts; how many records there were."""
    return facts.forget_everywhere(state.folder / "facts", facts.keys(keys))


def erase_fetched(state: State, names: set[str]) -> int:
    """Overwrite the bytes of images that were downloaded, in every source's store; how many addresses had them."""
    count = 0
    for folder in sorted((state.folder / "collect").glob("*/")):
        if (folder / urlstore.JOURNAL).is_file():
            with urlstore.Writer(folder, name=folder.name) as store:
                count += store.erase(names)
    return count


def remove_pages(state: State) -> list[str]:
    """Remove the pages that may show a withdrawn image; those that were there.  `stillroom run` makes them again."""
    there = [page for page in PAGES if (state.root / page).is_file()]
    for page in there:
        (state.root / page).unlink()
    return there


def _pixels(folder: Path, header: pack.Header, row: int) -> bytes:
    for name, rows in header.shards:
        if row < rows:
            with (folder / name).open("rb") as stream:
                stream.seek(row * header.row_bytes)
                return stream.read(header.row_bytes)
        row -= rows
    raise IndexError(row)
