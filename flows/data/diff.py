"""`stillroom data diff` and the page reports/changes.html."""

from __future__ import annotations

from pathlib import Path

from components.base import files
from components.diff import changes, page
from components.diff.changes import Changes
from components.html.page import visible
from components.samples import withdrawn
from flows.data import revisions
from flows.workspace.paths import State

PAGE = Path("reports/changes.html")
_SHOWN = 5  # entries of a list in the terminal


def diff(
    state: State, before: str, after: str, *, pictures: int, target: Path | None = None
) -> tuple[Changes, list[str]]:
    """Compare two states, write the gallery to ``target`` (reports/changes.html); what changed, and their names."""
    asked = [revisions.resolve(state, word) for word in (before, after)]
    with revisions.opened(state, asked[0]) as old, revisions.opened(state, asked[1]) as new:
        both = [changes.read(raw=each.raw, clean=each.clean, splits=each.splits) for each in (old, new)]
        found = changes.compare(*both)
        gone = withdrawn.names(state.root / "data/withdrawn.jsonl")  # shown nowhere, not even from an older state
        origin = revisions.origin(state, asked[0]), revisions.origin(state, asked[1])
        text = page.render(
            found, names=(asked[0].name, asked[1].name), origin=origin, raw=(old.raw, new.raw), gone=gone,
            limits=page.Limits(pictures=pictures),
        )  # fmt: skip
    files.write_text(target or state.root / PAGE, text)
    return found, [revision.name for revision in asked]


def lines(found: Changes, names: list[str]) -> str:
    """The changes as lines for a terminal; control characters of names and texts are escaped."""
    shown = [f"from {names[0]} to {names[1]}"]
    if found.none:
        return "\n".join([*shown, f"nothing changed: {found.kept[1]:,} images kept, the same ones"])
    shown.append(f"Kept: {found.kept[0]:,} → {found.kept[1]:,}")
    for title, entries in (("Added", found.added), ("Removed", found.removed), ("Changed verdicts", found.verdicts),
                           ("Changed labels or captions", found.annotated),
                           ("Moved to another split", found.moved)):  # fmt: skip
        shown.append(f"{title}: {len(entries):,}")
        shown += [f"  {_name(change)}: {visible(change.why)}" for change in entries[:_SHOWN]]
        if len(entries) > _SHOWN:
            shown.append(f"  and {len(entries) - _SHOWN:,} more")
    for title, counts in (("Source", found.sources), ("Label", found.labels)):
        for name, (old, new) in counts.items():
            if old != new:
                shown.append(f"{title} {visible(name)}: {old:,} → {new:,} kept")
    if found.moved:
        shown.append(f"SPLITS MOVED: {len(found.moved):,} images changed their split, which must never happen: models "
                     "from before and after cannot be compared (was split.salt or a share changed?)")  # fmt: skip
    return "\n".join(shown)


def _name(change: changes.Change) -> str:
    image = change.image
    return f"{visible(image['source'])}:{visible(image['source_key'])} {image['sha256'][:12]}"
