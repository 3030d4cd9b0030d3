"""``data/decisions.jsonl``: what curators decided about images by hand, one a line, the newest last.

    {"sha256": ..., "decision": "keep" | "reject" | "label", "label": ... | null, "undo": false, "reason": ...,
     "who": ... | null, "source": ..., "source_key": ...}

Stage `clean` lays them over the verdicts of its rules.  Lines are only added: of an image the last of keep and reject
counts, and the last label; a line with ``undo`` takes back the decision of its kind that holds then.  ``source`` and
``source_key`` say for readers what the image was called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from components.base.errors import UserError
from components.samples import records

Kind = Literal["keep", "reject", "label"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST = 500
"""Characters of a label, a reason or a name at most."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One line; ``label`` is the new one of a `label` that is not undone, else None.

    ``source`` and ``source_key`` say what the image was called, where the line does.
    """

    sha256: str
    kind: Kind
    label: str | None
    undo: bool
    reason: str
    who: str | None
    source: str | None = None
    source_key: str | None = None

    def line(self, *, source: str, source_key: str) -> dict[str, Any]:
        """As it is written down, with what the image is called."""
        return {
            "sha256": self.sha256, "decision": self.kind, "label": self.label, "undo": self.undo,
            "reason": self.reason, "who": self.who, "source": source, "source_key": source_key,
        }  # fmt: skip


Held = dict[tuple[str, bool], Decision]
"""What holds, in order, by the image's SHA-256 and whether it is about its label (else its verdict)."""


@dataclass(frozen=True)
class Standing:
    """What holds of one image: its verdict (a decision to keep or to reject) and its label, each None without one."""

    verdict: Decision | None = None
    label: Decision | None = None

    @property
    def all(self) -> list[Decision]:
        """Those that there are."""
        return [each for each in (self.verdict, self.label) if each]


def read(path: Path) -> list[Decision]:
    """Every line at ``path`` (none without the file); UserError names a bad one."""
    advice = f"mend the line; `git checkout {path}` brings back what was committed, and loses later decisions"
    return records.read(path, _parse, wanted="a decision", advice=advice)


def standing(path: Path) -> dict[str, Standing]:
    """What holds of each image, by SHA-256, in order of the decisions; UserError as `read`."""
    return in_force(read(path))


def in_force(found: Iterable[Decision]) -> dict[str, Standing]:
    """What holds after all of ``found``, in their order; images of which nothing holds any more are left out."""
    held: Held = {}
    for each in found:
        take(held, each)
    names = dict.fromkeys(sha256 for sha256, _ in held)
    return {name: Standing(held.get((name, False)), held.get((name, True))) for name in names}


def take(held: Held, new: Decision) -> None:
    """Change ``held``, what holds so far, by the decision that comes next."""
    at = new.sha256, new.kind == "label"
    if not new.undo:
        held.pop(at, None)  # the newest goes to the end
        held[at] = new
    elif at in held and held[at].kind == new.kind:
        del held[at]


def text(value: object, what: str) -> str:
    """``value`` as a label, reason or name; UserError for one that is empty, too long or cannot be seen."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{what} must be a text that is not empty, not {value!r}")
    if len(value) > LONGEST:
        raise UserError(f"{what} has {len(value):,} characters, wanted at most {LONGEST}")
    if bad := _UNSEEN.search(value):
        raise UserError(f"{what} holds U+{ord(bad[0]):04X}, which cannot be seen: take it out")
    return value.strip()


def parse(said: Mapping[str, Any]) -> Decision:
    """The decision in ``said``, the keys of a line but for what the image is called; UserError for what is none."""
    try:
        return _parse(said)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{error} is missing" if isinstance(error, KeyError) else str(error)) from None


def _parse(said: Mapping[str, Any]) -> Decision:
    kind, undo, who = said["decision"], said["undo"], said["who"]
    if kind not in KINDS:
        raise ValueError(f"decision must be keep, reject or label, not {kind!r}")
    if not isinstance(undo, bool):
        raise ValueError(f"undo must be true or false, not {undo!r}")
    try:
        label = text(said["label"], "label") if kind == "label" and not undo else None
        if label is None and said["label"] is not None:
            raise ValueError("label must be null but where a new label is given")
        reason, who = text(said["reason"], "reason"), None if who is None else text(who, "who")
    except UserError as error:
        raise ValueError(str(error)) from None
    called = {name: str(said[name]) for name in ("source", "source_key") if said.get(name) is not None}
    return Decision(
        sha256=records.digits(said, "sha256"), kind=kind, label=label, undo=undo, reason=reason, who=who, **called
    )  # fmt: skip
