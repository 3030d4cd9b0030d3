"""Decisions about a registered name: an intent goes on record before an alias moves, an outcome after.

An intent names the version by number and manifest hash, the champion that was expected, what was decided, by whom and
why.  Killed in between, the next run finds the intent without an outcome and ends it; it decides nothing again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flows.history.ledger import Record
from flows.history.shape import Result

_VOID = ("overtaken", "refused", "deleted")
"""The results after which a decision does not count."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision and what became of it; ``outcome`` is None while the alias may or may not have moved."""

    intent: Record
    outcome: Record | None

    @property
    def counts(self) -> bool:
        """Whether it is a decision that stood when it ended: neither overtaken nor refused, and not open."""
        return self.outcome is not None and self.outcome.body["result"] not in _VOID

    @property
    def deleted(self) -> bool:
        """Whether it is no decision, and says that the version was found deleted."""
        return self.outcome is not None and self.outcome.body["result"] == "deleted"

    @property
    def adopted(self) -> bool:
        """Whether it was found in the registry; its ``expected`` is the champion that it was found with."""
        return self.outcome is not None and self.outcome.body["result"] == "adopted"

    @property
    def promoted(self) -> bool:
        """Whether it stands and made its version the champion, which it still was where another machine found it."""
        made = self.counts and bool(self.intent.body["decision"]["promote"])
        return made and not (self.adopted and self.intent.body["expected"] not in (None, self.version))

    @property
    def waits(self) -> bool:
        """Whether it stands, and found its version better than the champion of then, and left the rest to a person."""
        return self.counts and bool(self.intent.body["decision"].get("waits"))

    @property
    def backfilled(self) -> bool:
        """Whether it is no decision of the gate: its version was made from an older commit, to be looked at."""
        return bool(self.intent.body["decision"].get("backfilled"))

    @property
    def version(self) -> int | None:
        """The version's number; None where an older record holds none."""
        number = self.intent.body["version"]
        return None if number is None else int(number)

    @property
    def date(self) -> str:
        """When it was decided: ``2026-11-26 21:47 UTC``."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.intent.when))

    @property
    def order(self) -> tuple[int, int, str]:
        """Later decisions have a higher one."""
        return (self.outcome or self.intent).order


def all_of(records: Iterable[Record], name: str | None = None) -> list[Decided]:
    """The decisions about the registered model ``name``, in the order in which they ended, open ones where they began.

    Those about every model without a ``name``; older records name no model and count for each.
    """
    known = list(records)
    ended: dict[str, Record] = {}
    for record in known:
        if record.kind == "outcome":  # two machines may have ended one: the first, unless the alias moved in the other
            first = ended.setdefault(record.body["intent"], record)
            if first.body["result"] in _VOID and record.body["result"] not in _VOID:
                ended[record.body["intent"]] = record
    found = [Decided(intent=record, outcome=ended.get(record.id)) for record in known
             if record.kind == "intent" and (name is None or record.body["name"] in (None, name))]  # fmt: skip
    return sorted(found, key=lambda decided: decided.order)


def standing(decided: Iterable[Decided]) -> dict[str, Decided]:
    """For the key of each run whose version was not deleted since, the last decision on it that stands."""
    return {key: one for key, one in latest(decided).items() if one.counts}


def latest(decided: Iterable[Decided]) -> dict[str, Decided]:
    """For the key of each run the last decision on it that stands, or what says that its version was deleted since."""
    return {one.intent.key: one for one in decided if one.counts or one.deleted}


def of_key(decided: Iterable[Decided], key: str) -> Decided | None:
    """The last decision on the version of the run ``key`` that stands."""
    return standing(decided).get(key)


def left_open(decided: Iterable[Decided]) -> list[tuple[Decided, bool]]:
    """The decisions that a killed process left open, and for each whether a champion was made since it began."""
    known = list(decided)
    made = max((one.order for one in known if one.promoted), default=(0, 0, ""))
    return [(one, made > one.order) for one in known if one.outcome is None]


def champion(decided: Iterable[Decided]) -> Decided | None:
    """The decision that made the present champion; None before the first, and when its version was deleted."""
    found = None
    for one in decided:
        if one.promoted:
            found = one
        elif one.deleted and found is not None and found.intent.key == one.intent.key:
            found = None
    return found


def intent(
    *, name: str, version: int, manifest: str, expected: int | None, decision: dict[str, Any], by: str
) -> dict[str, Any]:
    """The body of an intent; ``expected`` is the number of the champion that it was decided against, or found with."""
    return {"name": name, "version": version, "manifest": manifest, "expected": expected, "decision": decision,
            "by": by}  # fmt: skip


def outcome(of: Record, result: Result) -> dict[str, Any]:
    """The body of the outcome of the intent ``of``."""
    return {"intent": of.id, "result": result}
