"""`stillroom data diff` and the page reports/changes.html."""

from __future__ import annotations

from pathlib import Path

from components.base import files
from components.diff import changes as comparing
from components.diff import page as changespage
from components.diff.changes import Changes
from components.html.page import visible
from components.samples import withdrawn
from flows.data import revisions
from flows.workspace.paths import State

PAGE = Path("reports/changes.html")
_SHOWN = 5  # entries of a list in the terminal


def diff(
    state: State, before: str, after: str, *, pictures: int, page: Path | None = None
) -> tuple[Changes, list[str]]:
    """Compare two states, write the gallery to ``page`` (reports/changes.html); what changed, and their names."""
    asked = [revisions.resolve(state, word) for word in (before, after)]
    with revisions.opened(state, asked[0]) as old, revisions.opened(state, asked[1]) as new:
        both = [comparing.read(raw=each.raw, clean=each.clean, splits=each.splits) for each in (old, new)]
        found = comparing.compare(*both)
        gone = withdrawn.names(state.root / "data/withdrawn.jsonl")  # shown nowhere, not even from an older state
        text = changespage.render(
            found, names=(asked[0].told, asked[1].told), raw=(old.raw, new.raw), gone=gone,
            limits=changespage.Limits(pictures=pictures),
        )  # fmt: skip
    files.write_text(page or state.root / PAGE, text)
    return found, [revision.told for revision in asked]


def told(found: Changes, names: list[str]) -> str:
    """The changes as lines for a terminal; what came from outside cannot move its cursor."""
    lines = [f"from {names[0]} to {names[1]}"]
    if found.none:
        return "\n".join([*lines, f"nothing changed: {found.kept[1]:,} images kept, the same ones"])
    rows = [("kept", f"{found.kept[0]:,} → {found.kept[1]:,}")]
    for title, entries in (("added", found.added), ("removed", found.removed), ("verdict", found.verdicts),
                           ("said", found.said), ("moved", found.moved)):  # fmt: skip
        rows.append((title, f"{len(entries):,}"))
        rows += [("", f"{_name(change)}: {visible(change.why)}") for change in entries[:_SHOWN]]
        if len(entries) > _SHOWN:
            rows.append(("", f"and {len(entries) - _SHOWN:,} more"))
    for title, counts in (("source", found.sources), ("label", found.labels)):
        for name, (old, new) in counts.items():
            if old != new:
                rows.append((title, f"{visible(name)}: {old:,} → {new:,} kept"))
    lines += [f"{title:>8}  {value}" for title, value in rows]
    if found.moved:
        lines.append(f"SPLITS MOVED: {len(found.moved):,} images changed their split, which must never happen; models "
                     "from before and after do not compare (was split.salt or a share changed?)")  # fmt: skip
    return "\n".join(lines)


def _name(change: comparing.Change) -> str:
    image = change.image
    return f"{visible(image['source'])}:{visible(image['source_key'])} {image['sha256'][:12]}"
