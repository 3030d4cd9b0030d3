"""What changed between two pipeline runs, for people: `stillroom diff`, names and notes in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flows.dvc.package import NAME
from flows.history.store import PipelineRun

KID, X0_ERROR, KEPT = "evaluate/kid_efficientnet_lite0", "evaluate/x0_error", "clean/kept"
_SCORES = {KID: "KID", X0_ERROR: "x0 error", "evaluate/fd_efficientnet_lite0": "Fréchet distance",
           "evaluate/memorised_share": "close to a training image"}  # fmt: skip
"""The scores that are compared; for each, lower is better."""
_DATA = {"collect/items": "images that came in", KEPT: "kept", "clean/rejected": "rejected", "split/train": "train",
         "split/val": "val", "split/test": "test", "split/quarantine": "quarantine"}  # fmt: skip
_MOST = 2  # parameters in a name


@dataclass(frozen=True)
class Change:
    """One value that is not the same; ``kind`` is data, parameters, code or scores."""

    kind: str
    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return "{} {} → {}".format(*self.words())

    def words(self) -> tuple[str, str, str]:
        """What changed, before, and now."""
        return self.name, _short(self.before), _short(self.now)


def between(before: PipelineRun, now: PipelineRun) -> list[Change]:
    """Every change from ``before`` to ``now``: data, parameters, code, scores."""
    old, new = before.metrics, now.metrics
    found = [
        Change("data", name, old.get(key), new.get(key)) for key, name in _DATA.items() if old.get(key) != new.get(key)
    ]
    ours, theirs = (dict(_flat(run.sections)) for run in (before, now))
    found += [Change("parameters", name, ours.get(name), theirs.get(name))
              for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]  # fmt: skip
    package = [run.about.get("libraries", {}).get(NAME) for run in (before, now)]
    if any(package):  # in a project: what it commits is no code
        found += [Change("code", NAME, *package)] if package[0] != package[1] else []
    elif before.commit != now.commit:
        found.append(Change("code", "commit", before.commit[:12], now.commit[:12]))
    found += [
        Change("scores", name, old.get(key), new.get(key))
        for key, name in _SCORES.items()
        if old.get(key) != new.get(key)
    ]
    return found


def labelled(runs: Iterable[PipelineRun]) -> list[PipelineRun]:
    """``runs`` with a "name" and a "note" for people, each compared with the champion that it was decided against."""
    held = list(runs)
    by_key = {run.key: run for run in held}
    return [replace(run, about={**run.about, "name": _name(run, before), "note": _note(run, before)})
            for run in held for before in [by_key.get(run.about.get("against", ""))]]  # fmt: skip


def _name(run: PipelineRun, before: PipelineRun | None) -> str:
    """Such as ``v3: +600 images, KID 4.2 → 3.9``."""
    number = run.about.get("version")
    head = f"v{number}" if number else f"pipeline run {run.key[:8]}"
    numbers = run.metrics
    if before is None:
        parts = [f"{numbers[KEPT]:,.0f} images"] if KEPT in numbers else []
        parts += [f"KID {numbers[KID]:.3g}"] if KID in numbers else []
        return f"{head}: {', '.join(parts)}" if parts else head
    parts, old = [], before.metrics
    if numbers.get(KEPT) != old.get(KEPT):
        parts.append(f"{numbers.get(KEPT, 0) - old.get(KEPT, 0):+,.0f} images")
    changed = [change for change in between(before, run) if change.kind == "parameters"]
    parts += [str(change) for change in changed[:_MOST]]
    if len(changed) > _MOST:
        parts.append(f"{len(changed) - _MOST} more parameters")
    if KID in numbers and KID in old:
        parts.append(f"KID {old[KID]:.3g} → {numbers[KID]:.3g}")
    return f"{head}: {', '.join(parts)}"[:250] if parts else head


def text(now: PipelineRun, before: PipelineRun | None) -> str:
    """Every change from ``before``, which ``now`` was compared with, in Markdown: changes.md of an MLflow run."""
    if before is None:
        return "There was no champion to compare with.\n"
    found = between(before, now)
    lines = [f"# What changed since version {before.about.get('version', '?')}"]
    for kind in dict.fromkeys(change.kind for change in found):
        lines += ["", f"## {kind.capitalize()}", "", *(f"- {change}" for change in found if change.kind == kind)]
    return "\n".join([*lines, *([] if found else ["", "Nothing: the same data, parameters and code."]), ""])


def _note(run: PipelineRun, before: PipelineRun | None) -> str:
    """The text on the pages of the run and of its version, in Markdown: what was decided, scores, changes, the rest."""
    decision, numbers, old = run.about.get("decision"), run.metrics, before.metrics if before else {}
    lines = [f"**{decision['reason']}**" if decision else "Not compared with the champion yet.", ""]
    lines += [f"- {name}: {f'{old[key]:.4g} → ' if key in old else ''}{numbers[key]:.4g}"
              for key, name in _SCORES.items() if key in numbers]  # fmt: skip
    if before is not None:
        changes = [change for change in between(before, run) if change.kind != "scores"]
        lines += ["", f"Changed since version {before.about.get('version', '?')}:", ""]
        lines += [f"- {change.kind}: {change}" for change in changes[:40]] or ["- nothing"]
    lines += ["", "Made from:", ""]
    data = [f"{name} {numbers[key]:,.0f}" for key, name in _DATA.items() if key in numbers]
    lines += [f"- data: {', '.join(data)}"] if data else []
    sources = [f"{one['name']} ({one['licence']})" for one in (run.sections.get("collect") or {}).get("sources", [])]
    lines += [f"- sources: {', '.join(sources)}"] if sources else []
    lines.append(f"- code: {run.code.replace(run.commit, run.commit[:12])}")
    return "\n".join(lines)[:4500]


def _flat(sections: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sections.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _short(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}"
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
