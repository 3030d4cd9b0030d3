"""The part of the data report on kept pictures that are worth a look, by what they look like or are called."""

from __future__ import annotations

from typing import Any

from components.describe import paircards
from components.describe.evidence import Evidence, Gallery
from components.describe.overview import Limits
from components.html import page
from components.html.page import Child, Section, cut, el
from components.samples.looks import FLAGS


def flagged(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """The kept pictures with a flag, by flag; each is shown once."""
    title = "Worth a look"
    if data.flags is None or not len(data.flags):
        return Section("flagged", title, [page.empty("No kept picture has a flag.")])
    by_row = data.by_row
    body: list[Child] = [
        page.note("Pictures that are kept, and may be of little use: what they look like at the size that training "
                  "uses, or how they came. Nothing is rejected by this; ", el("code", "stillroom data review"),
                  " shows them with buttons that reject."),
    ]  # fmt: skip
    for flag, words in FLAGS.items():
        rows = [row for row in data.flags.loc[data.flags["flag"] == flag, "row"] if row in by_row]
        if rows:
            first = [by_row[row] for row in rows[: limits.pictures]]
            shown = [paircards.member(row, gallery, *_fits(row, data)) for row in first]
            body.append(page.fold(
                flag, page.note(words), el("ul", shown, class_="strip") if shown else None,
                page.hidden(len(shown), len(rows), "images"), open_=len(rows) <= 60, count=len(rows),
            ))  # fmt: skip
    return Section("flagged", title, body)


def _fits(row: Any, data: Evidence) -> list[Child]:
    """Of a label that may be wrong, the label and the one that may fit better."""
    if row.row not in data.fits:
        return []
    own, other = (cut(label, paircards.CARD, tell=False) for label in (row.label, data.fits[row.row]))
    return [f"{own}, or {other}?"]
