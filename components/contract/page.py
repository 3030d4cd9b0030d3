"""The page on a broken data contract: which clauses are broken, and by which sources and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.contract.clauses import Clause, broken
from components.html.page import Section, count, cut, document, el, note, share, table

_ROWS, _CHARACTERS = 200, 160


def render(clauses: Sequence[Clause], profile: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """The whole page; ``profile`` and ``before`` as `judge` took them."""
    bad = broken(list(clauses))
    names = ", ".join(f"contract.{clause.name}" for clause in bad)
    lede = [
        el("p", f"{len(bad)} of {len(clauses)} rules of the data contract are broken: {names}. Nothing was trained; "
           "the data and the champion stay as they are."),
        el("p", "Correct the source or remove the images; when the data is right, change section 'contract' of "
           "params.yaml. Then run again."),
    ]  # fmt: skip
    rows = [
        [clause.name, "broken" if clause.broken else "holds", clause.wanted, cut(clause.found, _CHARACTERS)]
        for clause in clauses
    ]
    sections = [Section("clauses", "Rules", [table(["rule", "", "wanted", "found"], rows, caption="The contract")])]
    for clause in bad:
        shown = [el("li", cut(who, _CHARACTERS)) for who in clause.involved[:_ROWS]]
        more = len(clause.involved) - len(shown)
        body = [
            el("p", f"Wanted: {clause.wanted}. Found: {clause.found}."),
            el("ul", shown) if shown else None,
            note(f"And {more:,} more.") if more > 0 else None,
        ]
        sections.append(Section(f"clause-{clause.name}", f"Broken: {clause.name}", body))
    sections += [_sources(profile, before), _labels(profile, before)]
    return document("Data contract broken", lede, sections)


def _sources(profile: Mapping[str, Any], before: Mapping[str, Any] | None) -> Section:
    then = before["sources"] if before else {}
    rows = []
    for name in sorted({*profile["sources"], *then}):
        now, old = profile["sources"].get(name), then.get(name)
        kept, gone = (now["kept"], now["rejected"]) if now else (0, 0)
        rows.append([cut(name, _CHARACTERS), count(old["kept"]) if old else "–", count(kept), count(gone),
                     share(gone, kept + gone)])  # fmt: skip
    header = ["source", "kept then", "kept now", "rejected now", "share rejected"]
    made = table(header, rows[:_ROWS], caption="Images by source", numbers=(1, 2, 3, 4), total=len(rows))
    return Section("sources", "Sources", [note(_then(before)), made])


def _labels(profile: Mapping[str, Any], before: Mapping[str, Any] | None) -> Section:
    now, then = profile["labels"], before["labels"] if before else {}
    # The greatest changes first: what is wrong is seldom where nothing changed.
    order = sorted({*now, *then}, key=lambda name: (-abs(now.get(name, 0) - then.get(name, 0)), name))
    rows = [[cut(name, _CHARACTERS), count(then.get(name, 0)) if before else "–", count(now.get(name, 0)),
             share(now.get(name, 0), profile["images"])] for name in order]  # fmt: skip
    header = ["label", "kept then", "kept now", "share now"]
    made = table(header, rows[:_ROWS], caption="Images by label", numbers=(1, 2, 3), total=len(rows))
    return Section("labels", "Labels", [note(_then(before)), made])


def _then(before: Mapping[str, Any] | None) -> str:
    return "Then: the last registered pipeline run." if before else "No earlier pipeline run is registered."
