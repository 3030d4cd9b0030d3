"""What curators decided about images, laid over the verdicts of the rules; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from components.clean.judge import KEPT, REJECTED, WITHDRAWN
from components.samples import manifest
from components.samples.decisions import Decision, Standing

CURATOR = "curator"
"""The reason of an image that a curator rejected."""
_OF_THE_RULE = ("reason", "detail", "twin", "twin_arrival", "distance", "difference")


def labelled(index: pa.Table, standing: Mapping[str, Standing]) -> pa.Table:
    """``index`` with the labels that curators gave."""
    new = {name: held.label.label for name, held in standing.items() if held.label}
    if not new:
        return index
    contents, labels = index["sha256"].to_pylist(), index["label"].to_pylist()
    changed = [new.get(name, label) for name, label in zip(contents, labels, strict=True)]
    at = index.schema.get_field_index("label")
    return index.set_column(at, index.schema.field(at), pa.array(changed, pa.string()))


def cast_out(index: pa.Table, standing: Mapping[str, Standing]) -> np.ndarray:
    """Which rows of ``index`` a curator rejected: their copies are not to take their place."""
    names = {name for name, held in standing.items() if held.verdict and held.verdict.kind == "reject"}
    if not names:
        return np.zeros(len(index), bool)
    return np.array([name in names for name in index["sha256"].to_pylist()], bool)


def overrule(table: pa.Table, index: pa.Table, standing: Mapping[str, Standing]) -> tuple[pa.Table, pa.Table]:
    """The verdicts ``table`` with what curators decided, and each decision with what came of it (manifest.DECISIONS).

    A decision changes the image that it names and no other.  To keep is possible where a rule that can err rejected
    the image (manifest.KEEPABLE); of equal bytes one is kept.  ``index`` has the labels of the sources.
    """
    if not standing:
        return table, manifest.rows([], manifest.DECISIONS)
    rows = _Rows(table, index, standing)
    found = []
    for name, held in standing.items():
        found += [rows.apply(name, decision) for decision in held.all]
    columns = {name: rows.columns[name] if name in rows.columns else table[name] for name in table.column_names}
    return manifest.table(columns, manifest.VERDICTS), manifest.rows(found, manifest.DECISIONS)


@dataclass(frozen=True)
class _Outcome:
    """The row that a decision is about, how that was and is, and why the decision changes nothing, "" if it does."""

    row: int | None
    before: str | None = None
    after: str | None = None
    fault: str = ""


class _Rows:
    """The columns of the verdicts that decisions change, as lists."""

    def __init__(self, table: pa.Table, index: pa.Table, standing: Mapping[str, Standing]) -> None:
        self.columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in ("verdict", *_OF_THE_RULE)}
        self._names = index.select(["arrival", "source", "source_key", "label"])
        self._by_hand = index["withdrawn"]
        self._of: dict[str, list[int]] = {}
        for at, name in enumerate(table["sha256"].to_pylist()):
            if name in standing:
                self._of.setdefault(name, []).append(at)

    def apply(self, name: str, decision: Decision) -> dict[str, Any]:
        """Do what ``decision`` says of the image ``name``; a row of manifest.DECISIONS."""
        rows = self._of.get(name, [])
        there = [at for at in rows if self.columns["verdict"][at] != WITHDRAWN]
        if not rows:
            found = _Outcome(None, fault="it never came from a source of this data")
        elif not there:
            by_hand = any(self._by_hand[at].as_py() for at in rows)
            found = _Outcome(rows[0], fault="it was withdrawn" if by_hand else "it is not in its source any more")
        else:
            found = {"keep": self._keep, "reject": self._reject, "label": self._label}[decision.kind](there, decision)
        called: dict[str, Any] = {"arrival": None, "source": None, "source_key": None}
        if found.row is not None:
            called = {key: self._names[key][found.row].as_py() for key in called}
        return {
            "sha256": name, **called, "decision": decision.kind, "before": found.before, "after": found.after,
            "reason": decision.reason, "who": decision.who, "fault": found.fault or None,
        }  # fmt: skip

    def _keep(self, there: list[int], decision: Decision) -> _Outcome:
        verdict, reason = self.columns["verdict"], self.columns["reason"]
        kept = next((at for at in there if verdict[at] == KEPT), None)
        if kept is not None:
            return _Outcome(kept, KEPT, KEPT)
        at = next((at for at in there if reason[at] in manifest.KEEPABLE), there[0])
        before = self._judged(at)
        if reason[at] not in manifest.KEEPABLE:
            return _Outcome(at, before, before, f"no picture that is {manifest.words(reason[at])} can be kept")
        self._set(at, KEPT)
        return _Outcome(at, before, KEPT)

    def _reject(self, there: list[int], decision: Decision) -> _Outcome:
        kept = [at for at in there if self.columns["verdict"][at] == KEPT]
        at = (kept or there)[0]
        before = self._judged(at)
        for each in kept:
            self._set(each, REJECTED, CURATOR, f"curator: {decision.reason}")
        return _Outcome(at, before, self._judged(at))

    def _label(self, there: list[int], decision: Decision) -> _Outcome:
        return _Outcome(there[0], self._names["label"][there[0]].as_py(), decision.label)

    def _set(self, at: int, verdict: str, reason: str | None = None, detail: str | None = None) -> None:
        for name in _OF_THE_RULE:
            self.columns[name][at] = None
        self.columns["verdict"][at], self.columns["reason"][at], self.columns["detail"][at] = verdict, reason, detail

    def _judged(self, at: int) -> str:
        return manifest.judged(self.columns["verdict"][at], self.columns["reason"][at])
