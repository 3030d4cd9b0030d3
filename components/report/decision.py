"""The page of a gate's decision: better or worse than the champion, by how much and how sure, and both side by side."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.html.page import Child, Safe, Section, document, el, figure, figures, note, side_by_side, table, tiles
from components.report.numbers import better, score_words

_CHANGES = {"x0_error_change": ("Change of the x0 error", "{:+.1%}"), "kid_change": ("Change of the KID", "{:+.3g}")}
"""What the gate compared (:mod:`components.register.gate`): its name here, and how it is written."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One version: ``name`` such as "denoiser version 3", its ``scores`` and ``samples`` (a PNG), ``seed`` of those."""

    name: str
    scores: Mapping[str, Any]
    samples: bytes
    seed: int


def page(
    decision: Mapping[str, Any], now: Compared, champion: Compared | None, *, changes: Sequence[tuple[str, ...]],
    origin: Sequence[tuple[str, str]],
) -> str:  # fmt: skip
    """The whole file.  ``changes`` are (kind, what, before, now) since the champion, ``origin`` (what, value)."""
    sections = [_side_by_side(now, champion), _scores(now, champion)]
    if champion:
        caption = f"What changed since {champion.name}"
        rows = [list(change) for change in changes]
        body = table(["Kind", "What", "Before", "Now"], rows, caption=caption) if rows else note("Nothing.")
        sections.append(Section("changes", "What changed", [body]))
    rows = [[what, el("code", value)] for what, value in origin]
    sections.append(Section("origin", "What it was made from", [
        table(["What", "Value"], rows, caption=f"On record of {now.name}"),
        note(Safe("The lineage, checked link by link: <code>stillroom lineage</code>. "), el("a", "Model report",
             href="model.html"), ", ", el("a", "data report", href="data.html"), "."),
    ]))  # fmt: skip
    return document(f"{now.name}: {_verdict(decision)}", _lede(decision, champion), sections)


def _verdict(decision: Mapping[str, Any]) -> str:
    if decision.get("waits"):
        return "better, waits for approval"
    return "promoted" if decision["promote"] else "not promoted"


def _lede(decision: Mapping[str, Any], champion: Compared | None) -> Child:
    evidence = decision["evidence"]
    shown = []
    for key, (name, form) in _CHANGES.items():
        if key in evidence:
            low, high = (form.format(evidence[f"{key}_{end}"]) for end in ("low", "high"))
            shown.append((name, form.format(evidence[key]), f"{low} to {high}; below 0 is better"))
    if shown:  # else nothing was compared
        sure = f"of intervals drawn anew hold the true change; margin {evidence.get('margin', 0):.1%}"
        shown.append(("Confidence", f"{evidence['confidence']:.0%}", sure))
    against = f"Compared with {champion.name}, the champion then." if champion else "There was no champion then."
    return [el("p", el("strong", decision["reason"])), el("p", against), tiles(shown) if shown else None]


def _side_by_side(now: Compared, champion: Compared | None) -> Section:
    versions = [now, *([champion] if champion else [])]
    same = len({each.seed for each in versions}) == 1
    how = f"from seed {now.seed}" if same else "from seeds of their own"
    pictures = [figure(_picture(each), f"{each.name}, seed {each.seed}") for each in versions]
    words = f"Samples as each version's evaluation drew them, {how}; a row for each class."
    return Section("samples", "Samples side by side" if champion else "Samples", [note(words), side_by_side(*pictures)])


def _picture(version: Compared) -> Child:
    data = base64.b64encode(version.samples).decode()
    return el("img", src=f"data:image/png;base64,{data}", alt=f"samples of {version.name}", style="max-width: 100%")


def _scores(now: Compared, champion: Compared | None) -> Section:
    rows = []
    for key, score in now.scores.items():
        other = champion.scores.get(key) if champion else None
        rows.append([score_words(key)[0], _written(score), _written(other), better(key)])
    header = ["Score", now.name, champion.name if champion else "no champion", "Better"]
    words = note(
        "Each as its own evaluation measured it, with its interval. The gate does not compare these: it scores both "
        "versions anew on the same images, as the numbers at the top say."
    )
    return Section("scores", "Scores", [words, table(header, rows, caption="Scores of both", numbers=[1, 2])])


def _written(score: Mapping[str, Any] | None) -> str:
    if not score:
        return "–"
    return f"{figures(score.get('value'), 4)} ({figures(score.get('low'))} to {figures(score.get('high'))})"
