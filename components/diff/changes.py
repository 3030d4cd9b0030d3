"""What differs between two states of the data: images, verdicts, splits, labels and captions; pure except `read`.

An image is identified by its source, its name there and its content.  It is *in* a state when its verdict is kept or
rejected; of a withdrawn image only the row is left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.samples import manifest

Row = dict[str, Any]
State = dict[tuple[str, str, str], Row]

ANNOTATIONS = ("label", "text", "licence", "matte", "group_key")
"""What a source and params.yaml say of an image."""
_COLUMNS = {
    "raw/index.parquet": ("arrival", "shard", "row"),
    "clean/verdicts.parquet": (
        "arrival", "sha256", "source", "source_key", "text", "label", "licence", "group_key", "matte", "size",
        "verdict", "reason", "detail", "twin", "distance", "difference", "width", "height", "format",
    ),
    "splits/splits.parquet": ("arrival", "split", "group"),
}  # fmt: skip
NO_LABEL = "(no label)"
VERDICT, LABEL = "curator_verdict", "curator_label"
"""Columns of a row: why, and who, a curator decided on its verdict and on its label; None without a decision."""


@dataclass(frozen=True)
class Change:
    """One image before and after; ``before`` is None for a new one, ``after`` for one that has no row any more."""

    before: Row | None
    after: Row | None
    why: str = ""

    @property
    def image(self) -> Row:
        """Its newest row."""
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True)
class Changes:
    """Every difference, each list in order of source and name; counts are (before, after) of kept images."""

    added: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)
    verdicts: list[Change] = field(default_factory=list)
    moved: list[Change] = field(default_factory=list)
    annotated: list[Change] = field(default_factory=list)
    kept: tuple[int, int] = (0, 0)
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Whether the two states are the same data."""
        return not (self.added or self.removed or self.verdicts or self.moved or self.annotated)

    def plain(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        lists = {name: [_plain(change) for change in getattr(self, name)]
                 for name in ("added", "removed", "verdicts", "moved")}  # fmt: skip
        lists["said"] = [_plain(change) for change in self.annotated]  # the key that `data diff --json` always had
        counts = {
            name: {key: list(both) for key, both in getattr(self, name).items()} for name in ("sources", "labels")
        }
        return {**lists, "kept": list(self.kept), **counts}


def read(*, raw: Path, clean: Path, splits: Path) -> State:
    """The images of one state by (source, name, SHA-256); columns that an older state lacks are None."""
    tables: dict[str, list[Row]] = {}
    for name, columns in _COLUMNS.items():
        folder, file = name.split("/")
        path = {"raw": raw, "clean": clean, "splits": splits}[folder] / file
        tables[folder] = manifest.read_any(path, columns)
    locations = {row["arrival"]: row for row in tables["raw"]}
    splits_of = {row["arrival"]: row for row in tables["splits"]}
    curated = _curated(clean)
    found: State = {}
    for row in tables["clean"]:
        row |= {VERDICT: curated.get((row["sha256"], False)), LABEL: curated.get((row["sha256"], True))}
        location, split = locations.get(row["arrival"], {}), splits_of.get(row["arrival"], {})
        row["shard"], row["row"] = location.get("shard"), location.get("row")
        row["split"], row["group"] = split.get("split"), split.get("group")
        found[row["source"], row["source_key"], row["sha256"]] = row
    return found


def _curated(clean: Path) -> dict[tuple[str, bool], str]:
    """What curators decided and came to something, by image and whether it is about the label."""
    path = clean / manifest.OUTCOMES
    if not path.is_file():  # a state from before there were decisions
        return {}
    rows = manifest.read_any(path, ("sha256", "decision", "reason", "who", "fault"))
    return {(row["sha256"], row["decision"] == "label"): f"{row['reason']}{', ' + row['who'] if row['who'] else ''}"
            for row in rows if not row["fault"]}  # fmt: skip


def compare(before: State, after: State) -> Changes:
    """What happened between ``before`` and ``after``."""
    changes = Changes(
        kept=(sum(map(_kept, before.values())), sum(map(_kept, after.values()))),
        sources=_counts(before, after, "source"), labels=_counts(before, after, "label"),
    )  # fmt: skip
    names = {identity[:2]: identity for identity, row in after.items() if _in(row)}
    for identity in sorted({*before, *after}):
        old, new = before.get(identity), after.get(identity)
        if old and new and old["split"] and new["split"] and old["split"] != new["split"]:
            changes.moved.append(Change(old, new, f"{old['split']} → {new['split']}"))
        if not _in(old) and not _in(new):
            continue
        if not _in(old):
            changes.added.append(Change(old, new, "came back" if old else "new"))
        elif not _in(new):
            changes.removed.append(Change(old, new, _gone(new, replaced=identity[:2] in names)))
        else:
            assert old is not None and new is not None
            if any(old[name] != new[name] for name in ("verdict", "reason", "twin")):
                why = f"{judged(old)} → {judged(new)}{_decided(old, new, VERDICT)}"
                changes.verdicts.append(Change(old, new, why))
            differ = [name for name in ANNOTATIONS if old[name] != new[name]]
            if differ:
                why = ", ".join(differ) + ("" if "label" not in differ else _decided(old, new, LABEL))
                changes.annotated.append(Change(old, new, why))
    return changes


def judged(row: Row) -> str:
    """The verdict of ``row`` with its reason."""
    return manifest.judged(row["verdict"], row["reason"])


def _decided(old: Row, new: Row, column: str) -> str:
    """Whose decision made the difference, in words; "" where none did."""
    if old[column] == new[column]:
        return ""
    return f"; decided by hand: {new[column]}" if new[column] else "; a decision was taken back"


def _gone(new: Row | None, *, replaced: bool) -> str:
    if replaced:
        return "replaced: other bytes under its name"
    return f"{new['reason'] or 'withdrawn'}: {new['detail'] or 'no reason given'}" if new else "not in the record"


def _in(row: Row | None) -> bool:
    return row is not None and row["verdict"] != "withdrawn"


def _kept(row: Row) -> bool:
    return row["verdict"] == "kept"


def _counts(before: State, after: State, column: str) -> dict[str, tuple[int, int]]:
    both = [Counter(row[column] or NO_LABEL for row in state.values() if _kept(row)) for state in (before, after)]
    return {name: (both[0][name], both[1][name]) for name in sorted({*both[0], *both[1]})}


def _plain(change: Change) -> dict[str, Any]:
    image = change.image
    identity = {name: image[name] for name in ("sha256", "source", "source_key", "label", "licence")}
    names = (*ANNOTATIONS, "verdict", "reason", "split")
    was = {name: change.before[name] for name in names} if change.before else None
    now = {name: change.after[name] for name in names} if change.after else None
    return {**identity, "why": change.why, "before": was, "after": now}
