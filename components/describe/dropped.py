"""The parts of the data report on images that are not used: rejected and withdrawn ones."""

from __future__ import annotations

from typing import Any

import pandas as pd

from components.describe import paircards
from components.describe.evidence import Evidence, Gallery
from components.describe.overview import REASONS, Limits
from components.html import page
from components.html.page import Child, Safe, Section, cut, el
from components.samples import manifest

_GONE = {
    "gone": "No longer in its source. Should it come back, it takes its place again.",
    "withdrawn": "Taken out by hand: its bytes are gone from the data, so there is no picture; it cannot come back.",
}


def rejected(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """The rejected images by reason; a duplicate stands beside the kept image that it repeats."""
    title = "Dropped, and why"
    dropped = data.images[data.images["verdict"] == "rejected"]
    if not len(dropped):
        return Section("dropped", title, [page.empty("Nothing was dropped: no image was rejected.")])
    why = dropped["reason"].fillna("unknown")
    body: list[Child] = [
        page.note("The rejected picture is on the left; where it repeats another, the kept one is on the right. Bits "
                  f"are those of a {data.bits}-bit perceptual hash that sees only shape; the difference compares "
                  "colours, 0 (equal) to 1. The most doubtful cases come first."),
    ]  # fmt: skip
    counts = why.value_counts()
    for reason in sorted(counts.index, key=lambda name: (-counts[name], name)):
        rows = _doubtful_first(dropped[why == reason])
        cards = [_card(data, row, limits, gallery) for row in rows.head(limits.pictures).itertuples(index=False)]
        body.append(page.fold(
            manifest.words(reason),
            el("p", REASONS.get(reason, ""), class_="note"),
            el("ul", cards, class_="strip") if cards else None,
            page.hidden(len(cards), len(rows), "images"),
            open_=len(rows) <= 60 or not len(body) > 1, count=len(rows),
        ))  # fmt: skip
    return Section("dropped", title, body)


def withdrawn(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Images that are no longer members: gone from their source, or taken out by hand."""
    title = "Gone and withdrawn"
    rows = data.images[data.images["verdict"] == "withdrawn"]
    if not len(rows):
        return Section(
            "withdrawn", title, [page.empty("Every image is still in its source, and none was withdrawn by hand.")]
        )
    by_hand = rows["shard"] == ""
    body: list[Child] = [
        page.note("They are not used, but keep their place in the order of arrival, so that no other image of their "
                  "group changes its split."),
    ]  # fmt: skip
    for key, found in (("gone", rows[~by_hand]), ("withdrawn", rows[by_hand])):
        if not len(found):
            continue
        shown = list(found.head(limits.pictures if key == "gone" else limits.rows).itertuples(index=False))
        body.append(page.fold(
            "Gone from their source" if key == "gone" else "Withdrawn by hand",
            el("p", _GONE[key], class_="note"),
            _gone(shown, gallery) if key == "gone" else _by_hand(shown, limits),
            page.hidden(len(shown), len(found), "images"),
            open_=len(found) <= 60, count=len(found),
        ))  # fmt: skip
    return Section("withdrawn", title, body)


def _gone(rows: list[Any], gallery: Gallery) -> Safe | None:
    return el("ul", [paircards.member(row, gallery) for row in rows], class_="strip") if rows else None


def _by_hand(rows: list[Any], limits: Limits) -> Safe:
    """A list and no pictures: there are none left, and captions of withdrawn images are not repeated."""
    cells = [[el("code", row.sha256[:12]), cut(row.source_key, limits.characters), cut(row.source, limits.characters),
              cut(row.detail, limits.characters)] for row in rows]  # fmt: skip
    return page.table(["SHA-256", "Name", "Source", "Reason"], cells, caption="Withdrawn by hand")


def _card(data: Evidence, row: Any, limits: Limits, gallery: Gallery) -> Safe:
    pictures = [gallery.cell(row.arrival, f"rejected: {paircards.name(row)}")]
    twin = None if pd.isna(row.twin_arrival) else data.rows.get(int(row.twin_arrival))
    measured: list[Child] = [el("span", cut(row.detail, min(limits.characters, 2 * paircards.CARD), tell=False))]
    if twin is not None:
        # A copy of what a curator rejected stands beside that one, which is not kept.
        pictures.append(gallery.cell(twin.arrival, f"{twin.verdict}: {paircards.name(twin)}"))
        kept = el("span", f"{twin.verdict}: {_brief(twin.source_key, limits)}")
        pair = data.between.get((min(row.arrival, twin.arrival), max(row.arrival, twin.arrival)), row)
        measured = [el("span", paircards.line(pair, data.bits)), kept]
    words = [el("b", _brief(row.source_key, limits)), el("span", _brief(row.text, limits)), *measured]
    shown = [el("div", pictures, class_="both"), el("div", words, class_="words")]
    return el("li", shown, class_="pair", title=paircards.identity(row))


def _doubtful_first(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["distance", "difference", "arrival"]
    return rows.sort_values(keys, ascending=[False, False, True], na_position="last", kind="stable")


def _brief(text: object, limits: Limits) -> str:
    return cut(text, min(limits.characters, paircards.CARD), tell=False)
