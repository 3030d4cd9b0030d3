"""The part of the data report on what curators decided: which image, what, why and who, and what came of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from components.describe.evidence import Evidence, Gallery
from components.describe.overview import Limits
from components.html import page
from components.html.page import Child, Section, cut, el


def decided(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """The decisions that hold, the newest first, each with what it changed or why it changes nothing."""
    title = "Decided by curators"
    rows = data.decisions.iloc[::-1]
    if not len(rows):
        return Section("decided", title, [page.empty("Nothing: every verdict is that of the rules."), _how()])
    shown = rows.head(limits.rows).itertuples(index=False)
    cells = [_cells(data, row, limits, gallery, pictured=at < limits.pictures) for at, row in enumerate(shown)]
    header = ["Image", "", "Decision", "Before and after", "Reason", "Who"]
    idle = int(rows["fault"].notna().sum())
    return Section("decided", title, [
        page.note("Decisions stand above the rules (", el("code", "data/decisions.jsonl"), "). Each changes the image "
                  "that it names, and a rejection the copies of it too; groups and splits stay. ",
                  f"{page.plural(idle, 'decision')} of {len(rows):,} changes nothing at present." if idle else ""),
        _how(),
        page.table(header, cells, caption="Decisions, the newest first", total=len(rows)),
    ])  # fmt: skip


def _how() -> Child:
    return page.note(el("code", "stillroom data review"), " opens a page on which verdicts and labels are overruled.")


def _cells(data: Evidence, row: Any, limits: Limits, gallery: Gallery, *, pictured: bool) -> list[Child]:
    there = not pd.isna(row.arrival)
    name = cut(row.source_key, limits.characters) if there else row.sha256[:16]
    picture = gallery.cell(int(row.arrival), name) if there and pictured else None
    became: Child = [cut(row.fault, limits.characters)]
    if pd.isna(row.fault):
        became = [cut(row.before, limits.characters) or "no label", " → ", el("b", cut(row.after, limits.characters))]
    return [name, picture, row.decision, became, cut(row.reason, limits.characters), cut(row.who, limits.characters)]
