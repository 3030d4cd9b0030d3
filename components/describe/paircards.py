"""Two pictures side by side with what was measured between them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from components.describe.evidence import Evidence, Gallery
from components.html.page import Child, Safe, cut, el, figures, plural

CARD = 60  # characters of a name beside a thumbnail
METHODS = {
    "bytes": "the same bytes",
    "pixels": "the same pixels",
    "hash": "perceptual hash",
    "correlation": "aligned correlation",
    "orb": "key points (ORB)",
    "embedding": "embedding",
    "group": "one group in the source",
    "withdrawn": "from the record of a withdrawn image",
}


def name(row: Any) -> str:
    """The caption, or else the name in the source, of an image in a few words."""
    return cut(row.text, CARD, tell=False) or cut(row.source_key, CARD, tell=False)


def identity(row: Any) -> str:
    """What a reader points at: the source, the name in it and the start of the SHA-256, which commands take."""
    return f"{cut(row.source, CARD, tell=False)}: {cut(row.source_key, 2 * CARD, tell=False)} · {row.sha256[:16]}"


def measured(pair: Any, bits: int) -> list[tuple[str, str]]:
    """What was measured between two images, as (what, value); a measurement that was not made is left out.

    ``bits`` is the length of a perceptual hash.
    """
    found = []
    method = getattr(pair, "how", None)  # rows of verdicts have no such column, rows of pairs do
    if isinstance(method, str):
        found.append(("Found by", METHODS.get(method, method)))
    if method in ("bytes", "pixels"):
        return found  # nothing differs
    if not pd.isna(pair.distance):
        found.append(("Hash", f"{plural(int(pair.distance), 'bit')} of {bits} differ"))
    if not pd.isna(pair.difference):
        found.append(("Colour", f"differs by {figures(float(pair.difference))} of 1"))
    if not pd.isna(getattr(pair, "correlation", None)):
        found.append(("Correlation", figures(float(pair.correlation))))
    if not pd.isna(getattr(pair, "inliers", None)):
        found.append(("Key points", f"{plural(int(pair.inliers), 'inlier')}"))
    orientation = getattr(pair, "orientation", None)
    if isinstance(orientation, str) and orientation:
        found.append(("Turned", orientation))
    return found


def evidence(pair: Any, bits: int) -> Safe:
    """The measurements of ``pair`` as a small list."""
    entries = [el("div", el("dt", what), el("dd", cut(value, CARD))) for what, value in measured(pair, bits)]
    return el("dl", entries, class_="facts")


def line(pair: Any, bits: int) -> str:
    """The measurements of ``pair`` in one line."""
    return " · ".join(value if what in ("Found by", "Hash") else f"{what.lower()} {value}"
                      for what, value in measured(pair, bits))  # fmt: skip


def compared(data: Evidence, pair: Any, gallery: Gallery) -> Safe:
    """A pair: both pictures, enlarged, side by side, and below them their names and what was measured."""
    ends = [data.rows[pair.a], data.rows[pair.b]]
    pictures = [
        el("figure", gallery.cell(row.arrival, name(row), large=True),
           el("figcaption", el("b", name(row)), el("span", tags(row))), title=identity(row))
        for row in ends
    ]  # fmt: skip
    verdict = "one picture" if pair.same else "alike, kept as two"
    taken = el("span", verdict, class_=f"tag {'rejected' if pair.same else 'kept'}")
    return el("li", el("div", pictures, class_="both"), el("p", taken), evidence(pair, data.bits), class_="compare")


def tags(row: Any) -> list[Safe]:
    """The split of a kept image, the verdict of any other."""
    tag = row.split if row.verdict == "kept" and isinstance(row.split, str) else row.verdict
    return [el("span", tag, class_=f"tag {tag}")]


def member(row: Any, gallery: Gallery, *words: Child) -> Safe:
    """One thumbnail with its tag and name."""
    text = el("div", el("span", words or tags(row)), name(row), class_="words")
    return el("li", gallery.cell(row.arrival, name(row)), text, class_="cell", title=identity(row))
