"""Section of the model report: which words of captions are drawn so that the right picture is found."""

from __future__ import annotations

from components.html.page import Section, el, note, table
from components.report.outcome import Outcome

MOST = 60
"""Words in the table: half of them the best, half the worst."""


def words(data: Outcome) -> Section | None:
    """A table of words; None for a model that takes no captions, or where no word is common enough."""
    found = data.scores.get("words") or []
    if not found:
        return None
    shown = found if len(found) <= MOST else [*found[: MOST // 2], *found[-MOST // 2 :]]
    rows = [[row["word"], f"{row['images']:,}", f"{row['found']:.0%}"] for row in shown]
    return Section("words", "By word", [
        el("p", f"{len(found):,} words are in five captions of test images or more."
                + ("" if len(shown) == len(found) else f" The best and the worst {MOST // 2} are shown.")),
        note("Found: a picture is drawn of a caption, and the image that the caption is of stands among the ten test "
             "images most like it. A word that is seldom found is drawn badly, or says little of what an image shows."),
        table(["Word", "Captions", "Found"], rows, caption="Words of captions by how often their image is found",
              numbers=[1, 2]),
    ])  # fmt: skip
