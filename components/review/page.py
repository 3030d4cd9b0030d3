"""The review page: what a curator may overrule, with buttons that make decisions.

As a file it keeps them until they are saved as a file of decisions; from the server of `stillroom data review`, whose
``token`` it carries, each click is one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.diff.changes import Change, Row, judged
from components.diff.page import Pictures
from components.html.page import (  # fmt: skip
    Child,
    Safe,
    Section,
    cut,
    document,
    el,
    empty,
    fold,
    hidden,
    note,
    visible,
)
from components.review import script
from components.review.turn import Turn
from components.samples import manifest
from components.samples.decisions import KINDS, Decision, Kind, Standing
from components.samples.looks import FLAGS

_WORDS = 80  # characters of a name or caption beside a picture
_MEMBERS = 24  # pictures of one group in a file
_OPEN = 12  # groups that need no unfolding
_LABELS = 2000  # labels that the page proposes
_FIRST = Turn()
Flag = tuple[str, str | None]
"""Of looks.FLAGS one, and the label that may fit better."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most pictures in each section, side of a picture in pixels."""

    pictures: int = 200
    side: int = 64


def render(
    rows: Sequence[Row], standing: Mapping[str, Standing], *, raw: Path, gone: frozenset[str], limits: Limits,
    flags: Mapping[str, Flag] | None = None, turn: Turn = _FIRST,
) -> str:  # fmt: skip
    """The page about ``rows`` (components.diff.changes.read), in order of arrival; ``gone`` is never shown.

    ``flags`` says of kept pictures, by SHA-256, why they are worth a look (components/samples/looks.py), and which
    label may fit better.  ``turn``: the page of a list that is looked at.
    """
    pictures = Pictures(raw, raw, limits.side, gone=gone)
    by = {row["sha256"]: row for row in reversed(rows)}  # the first of each content, or the one that is kept
    by |= {row["sha256"]: row for row in rows if row["verdict"] == "kept"}
    cards = _Cards(by, standing, pictures, limits, turn)
    mixed, others = _groups(rows)
    sections = [
        _rejected(rows, cards),
        cards.flagged(flags),
        cards.groups("labels", "Alike, labelled differently", mixed,
                     "One of the labels of such a group may be wrong: write the right one below, then click."),
        cards.groups("alike", "Alike, and kept", others,
                     "Pictures of one group, which lie in one split. Reject those that add nothing."),
        _standing(standing, cards),
    ]  # fmt: skip
    said = {row["label"] for row in rows if row["label"] is not None}
    labels = sorted(label for label in said if label == visible(label))  # others cannot be picked from a list
    lede = [
        el("p", "Write the reason below once, then click: it goes on record with each decision. ",
           "Every click is saved at once." if turn.token else ["Save them as a file at the end: ",
           el("code", "stillroom data decide decisions.jsonl"), " takes it in."]),
        _desk(labels, turn.token),
    ]  # fmt: skip
    css = script.CSS + pictures.css()
    return document(
        "Review", lede, [each for each in sections if each], css=css, script=script.SCRIPT, connect=bool(turn.token)
    )


def _desk(labels: Sequence[str], token: str) -> Safe:
    """The fields that every click uses."""
    proposed = el("datalist", [el("option", value=label) for label in labels[:_LABELS]], id="labels")
    return el(
        "div",
        el("label", "Reason", el("input", id="reason", maxlength=500, autocomplete="off")),
        el("label", "New label, for Label", el("input", id="label", maxlength=500, list="labels", autocomplete="off")),
        None if token else el("button", "Save decisions", type="button", id="save"),
        proposed, el("p", id="said", role="status"), id="desk", data_token=token,
    )  # fmt: skip


def _rejected(rows: Sequence[Row], cards: _Cards) -> Section | None:
    """What rules rejected and can be kept, by reason, the most doubtful first."""
    body: list[Child] = []
    found = [row for row in rows if row["verdict"] == "rejected" and row["reason"] in manifest.KEEPABLE]
    for reason in manifest.KEEPABLE:
        mine = [row for row in found if row["reason"] == reason and not cards.kept(row)]
        mine.sort(key=lambda row: (-(row["distance"] or 0), -(row["difference"] or 0)))
        if mine and cards.turn.shows(reason):
            body.append(fold(manifest.words(reason), *cards.strip(reason, mine), open_=True, count=len(mine)))
    if body:
        body.insert(0, note("The rejected picture is on the left, the one that it repeats beside it."))
    return cards.section("rejected", "Rejected by a rule", body, "No picture that could be kept was rejected.")


def _standing(standing: Mapping[str, Standing], cards: _Cards) -> Section | None:
    """The decisions that hold, the newest first; each can be taken back."""
    title = "Decisions that hold"
    found = [(name, held) for name, held in standing.items()][::-1]
    if not found or not cards.turn.shows("standing"):
        return cards.section("standing", title, [], "None yet.")
    shown, others = cards.part("standing", [1] * len(found), "images")
    made = [cards.decided(name, held) for name, held in found[shown]]
    return Section("standing", title, [el("ul", made, class_="strip"), others])


def _groups(rows: Sequence[Row]) -> tuple[list[list[Row]], list[list[Row]]]:
    """The groups of two or more kept pictures: those with several labels, and the others; the largest first."""
    by: dict[str, list[Row]] = {}
    for row in rows:
        if row["verdict"] == "kept" and row["group"]:
            by.setdefault(row["group"], []).append(row)
    found = sorted((each for each in by.values() if len(each) > 1), key=lambda each: (-len(each), each[0]["arrival"]))
    several = [len({row["label"] for row in each} - {None}) > 1 for each in found]
    return ([each for each, mixed in zip(found, several, strict=True) if mixed],
            [each for each, mixed in zip(found, several, strict=True) if not mixed])  # fmt: skip


@dataclass(frozen=True)
class _Cards:
    """Pictures with their names and buttons; ``by`` has one row of each content."""

    by: Mapping[str, Row]
    standing: Mapping[str, Standing]
    pictures: Pictures
    limits: Limits
    turn: Turn

    def section(self, key: str, title: str, body: list[Child], none: str) -> Section | None:
        """The section of ``body``; where that is empty, the words ``none``, or nothing on a page of another list."""
        if body:
            return Section(key, title, body)
        return None if self.turn.list else Section(key, title, [empty(none)])

    def part(self, name: str, sizes: Sequence[int], what: str) -> tuple[slice, Child]:
        """As :meth:`Turn.part`, for the page's own limit."""
        return self.turn.part(name, sizes, self.limits.pictures, what)

    def kept(self, row: Row) -> bool:
        """Whether another row of the same bytes is kept, so that there is nothing to be kept."""
        return bool(self.by[row["sha256"]]["verdict"] == "kept")

    def strip(self, name: str, rows: Sequence[Row]) -> list[Child]:
        """The cards of rejected pictures, each beside its twin."""
        shown, others = self.part(name, [1] * len(rows), "images")
        made = [self._card(row, ("keep", "label")) for row in rows[shown]]
        return [el("ul", made, class_="strip"), others]

    def flagged(self, flags: Mapping[str, Flag] | None) -> Section | None:
        """The kept pictures that are worth a look, by flag."""
        body: list[Child] = []
        for flag, words in FLAGS.items():
            rows = [(self.by[name], fits) for name, (why, fits) in (flags or {}).items()
                    if why == flag and name in self.by]  # fmt: skip
            if rows and self.turn.shows(flag):
                shown, others = self.part(flag, [1] * len(rows), "images")
                made = [self._card(row, ("reject", "label"), fits) for row, fits in rows[shown]]
                body.append(fold(flag, note(words), el("ul", made, class_="strip"), others, open_=True,
                                 count=len(rows)))  # fmt: skip
        return self.section("flagged", "Worth a look", body, "No kept picture has a flag.")

    def groups(self, key: str, title: str, found: Sequence[Sequence[Row]], words: str) -> Section | None:
        """A section of ``found``, as many as there is room for."""
        if not found or not self.turn.shows(key):
            return self.section(key, title, [], "None.")
        body: list[Child] = [note(words)]
        most = self.limits.pictures if self.turn.token else _MEMBERS  # a file has room for a few groups only
        shown, others = self.part(key, [min(len(each), most) for each in found], "groups")
        for number, each in enumerate(found[shown]):
            made = [self._card(row, ("reject", "label")) for row in each[:most]]
            names = ", ".join(sorted({cut(row["label"], _WORDS, tell=False) for row in each} - {""})) or "no label"
            body.append(fold(names, el("ul", made, class_="strip"), hidden(len(made), len(each), "images"),
                             open_=number < _OPEN, count=len(each)))  # fmt: skip
        return Section(key, title, [*body, others])

    def decided(self, name: str, held: Standing) -> Safe:
        """What is decided about an image, whether it is there or not, with buttons that take it back."""
        row = self.by.get(name)
        words: list[Child] = [el("span", f"{_short(each)}: {cut(each.reason, _WORDS, tell=False)}",
                                 f" ({each.who})" if each.who else "") for each in held.all]  # fmt: skip
        buttons = [_button(each.kind, f"Take back: {each.kind}", undo=True) for each in held.all]
        picture = self._picture(row) if row else None
        return self._item(name, picture, [el("b", self._name(row) if row else name[:16]), *words], buttons)

    def _card(self, row: Row, kinds: Sequence[Kind], fits: str | None = None) -> Safe:
        twin = self.by.get(row["twin"] or "")
        shown: Child = self._picture(row)
        words: list[Child] = [el("b", self._name(row)), el("span", cut(row["text"], _WORDS, tell=False)),
                              el("span", "no label" if row["label"] is None else f"label: {row['label']}")]  # fmt: skip
        if fits:
            words.append(el("span", f"fits better: {cut(fits, _WORDS, tell=False)}"))
        if twin:
            shown = el("div", shown, self._picture(twin), class_="both")
            words.append(el("span", f"{judged(twin)}: {self._name(twin)}"))
        if row["detail"]:
            words.append(el("span", cut(row["detail"], 2 * _WORDS, tell=False)))
        so_far = ", ".join(map(_short, self.standing.get(row["sha256"], Standing()).all))
        return self._item(row["sha256"], shown, words, [_button(kind, kind.capitalize()) for kind in kinds],
                          so_far=so_far, wide=row["verdict"] != "kept")  # fmt: skip

    def _item(
        self, name: str, picture: Child, words: list[Child], buttons: list[Safe], *, so_far: str = "",
        wide: bool = True,
    ) -> Safe:  # fmt: skip
        text = el("div", words, el("div", buttons, class_="do"), el("output", so_far), class_="words")
        return el("li", picture, text, class_="pair" if wide else "cell", data_sha=name)

    def _picture(self, row: Row) -> Safe:
        return self.pictures.cell(Change(None, row), self._name(row))

    def _name(self, row: Row) -> str:
        return cut(row["source_key"], _WORDS, tell=False) or row["sha256"][:16]


def _short(decision: Decision) -> str:
    return decision.kind if decision.label is None else f"{decision.kind} {decision.label}"


def _button(kind: Kind, words: str, *, undo: bool = False) -> Safe:
    assert kind in KINDS
    return el("button", words, type="button", data_do=kind, data_undo=undo)
