"""The gallery of what changed between two states of the data: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from components.decode import images
from components.diff.changes import ANNOTATIONS, Change, Changes, Row, judged
from components.html.page import (  # fmt: skip
    Child,
    Safe,
    Section,
    count,
    cut,
    document,
    el,
    empty,
    fold,
    hidden,
    note,
    plural,
    table,
    tiles,
)
from components.html.sprites import Sprites, blank
from components.samples import shards

_WORDS = 80  # characters of a name or caption beside a picture
# Rejected so: never decoded here.
_BROKEN = frozenset({"damaged", "not_an_image", "format", "too_large", "undecided", "unsafe"})
Origin = Sequence[tuple[str, str]]
_MOST_PIXELS = 50_000_000  # of a picture without a known size


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most pictures in each list, most rows of a table, side of a picture in pixels."""

    pictures: int = 200
    rows: int = 200
    side: int = 64


class Pictures:
    """Thumbnails from the raw bytes of either state; asked for one by one, read shard by shard at the end."""

    def __init__(self, before: Path, after: Path, side: int, *, gone: frozenset[str]) -> None:
        self._raw = (before, after)
        self._side, self._gone = side, gone
        self._sprites = Sprites("changed", side, exact=False)
        self._wanted: tuple[dict[str, Row], dict[str, Row]] = ({}, {})

    def __len__(self) -> int:
        return len(self._sprites)

    def cell(self, change: Change, alt: str) -> Safe:
        """The picture of one image; a frame when it is broken, or withdrawn by hand and so never shown again."""
        which = 1 if change.after and change.after["verdict"] != "withdrawn" else 0
        row = change.after if which else change.before
        if row is None or row["sha256"] in self._gone or not row["shard"] or row["row"] is None or row["row"] < 0:
            return blank(self._side, "withdrawn", alt)
        if row["reason"] in _BROKEN:
            return blank(self._side, str(row["reason"]).replace("_", " "), alt)
        key = f"{row['sha256']} {row['matte']}"
        if not any(key in wanted for wanted in self._wanted):
            self._wanted[which][key] = row
            self._sprites.reserve(key)
        return self._sprites.cell(key, alt)

    def css(self) -> str:
        """Read and shrink what was asked for; the style rules with all of it."""
        for raw, wanted in zip(self._raw, self._wanted, strict=True):
            rows = list(wanted.values())
            for at, data in shards.read_bytes(raw, [(row["shard"], row["row"]) for row in rows]):
                picture = _thumbnail(data, rows[at], self._side)
                if picture is not None:
                    self._sprites.fill(f"{rows[at]['sha256']} {rows[at]['matte']}", picture)
        return self._sprites.css()


def render(
    changes: Changes, *, names: tuple[str, str], raw: tuple[Path, Path], gone: frozenset[str], limits: Limits,
    origin: tuple[Origin, Origin] = ((), ()),
) -> str:  # fmt: skip
    """The page; ``names``, ``raw`` and ``origin`` are of the state before and of the one after.

    ``gone`` is never shown.  ``origin`` says where a state comes from: its code, its date and the hashes of its data.
    """
    pictures = Pictures(*raw, limits.side, gone=gone)
    sections = [
        _moved(changes, limits, pictures),
        _list("added", "Added", changes.added, "In the later state and not in the earlier one.", limits, pictures),
        _list(
            "removed", "Removed", changes.removed, "In the earlier state and not in the later one.", limits, pictures
        ),
        _list("verdicts", "Changed verdicts", changes.verdicts, "In both states, other verdict.", limits, pictures),
        _annotated(changes, limits, pictures),
        _counts("sources", "Kept images by source", "Source", changes.sources, limits),
        _counts("labels", "Kept images by label", "Label", changes.labels, limits),
    ]
    lede = [
        el("p", f"From {names[0]} to {names[1]}."),
        tiles([
            ("Kept", f"{changes.kept[1]:,}", f"{changes.kept[1] - changes.kept[0]:+,} against {changes.kept[0]:,}"),
            ("Added", count(len(changes.added)), "new images, and images that came back"),
            ("Removed", count(len(changes.removed)), "gone, withdrawn or replaced"),
            ("Changed verdicts", count(len(changes.verdicts)), "images in both states"),
            ("Changed labels or captions", count(len(changes.annotated)), "also licence, matte (background) or group"),
            ("Moved splits", count(len(changes.moved)), "must be 0" if changes.moved else "as it must be"),
        ]),
        _origin(origin) if all(origin) else None,
    ]  # fmt: skip
    return document("What changed", lede, sections, css=pictures.css())


def _origin(origin: tuple[Origin, Origin]) -> Safe:
    rows = [[what, el("code", before), el("code", after)] for (what, before), (_, after) in zip(*origin, strict=True)]
    return table(["", "Before", "After"], rows, caption="Where the two states come from; folders by their hash in DVC")


def _moved(changes: Changes, limits: Limits, pictures: Pictures) -> Section:
    if not changes.moved:
        return Section("moved", "Moved splits", [empty("No image moved from one split to another.")])
    warn = el("p", f"{plural(len(changes.moved), 'image')} moved between splits: what was tested on may now be trained "
                   "on. Scores of models from before and after do not compare.", class_="warn")  # fmt: skip
    return Section("moved", "Moved splits", [warn, *_cards(changes.moved, limits, pictures)])


def _list(key: str, title: str, found: list[Change], words: str, limits: Limits, pictures: Pictures) -> Section:
    if not found:
        return Section(key, title, [empty("None.")])
    by: dict[str, list[Change]] = {}
    for change in found:
        by.setdefault(change.why, []).append(change)
    body: list[Child] = [note(words)]
    room = limits.pictures
    for why in sorted(by, key=lambda why: (-len(by[why]), why)):
        cards = _cards(by[why], limits, pictures, room)
        room -= min(room, len(by[why]))
        body.append(fold(cut(why, 2 * _WORDS, tell=False), *cards, open_=True, count=len(by[why])))
    return Section(key, title, body)


def _annotated(changes: Changes, limits: Limits, pictures: Pictures) -> Section:
    title = "Changed labels or captions"
    if not changes.annotated:
        return Section("said", title, [empty("No label, caption, licence, matte or group changed.")])
    rows = []
    for change in changes.annotated[: limits.rows]:
        before, after = change.before or {}, change.after or {}
        differences = [[el("b", name), f": {_short(before[name])} → {_short(after[name])}", el("br")]
                       for name in ANNOTATIONS if before[name] != after[name]]  # fmt: skip
        key = _short(change.image["source_key"])
        rows.append([key, pictures.cell(change, key), differences])
    grid = table(
        ["Image", "", "Before and after"], rows, caption="What changed of each image", total=len(changes.annotated)
    )
    return Section("said", title, [grid])


def _counts(key: str, title: str, column: str, counts: Mapping[str, tuple[int, int]], limits: Limits) -> Section:
    order = sorted(counts, key=lambda name: (-abs(counts[name][1] - counts[name][0]), -counts[name][1], name))
    rows = [[cut(name, _WORDS), count(counts[name][0]), count(counts[name][1]),
             f"{counts[name][1] - counts[name][0]:+,}"] for name in order]  # fmt: skip
    header = [column, "Before", "After", "Difference"]
    return Section(key, title, [
        table(header, rows[: limits.rows], caption=f"{title}, largest change first", numbers=[1, 2, 3], total=len(rows))
    ])  # fmt: skip


def _cards(found: list[Change], limits: Limits, pictures: Pictures, room: int | None = None) -> list[Child]:
    shown = found[: limits.pictures if room is None else room]
    cards = [_card(change, pictures) for change in shown]
    return [el("ul", cards, class_="strip") if cards else None, hidden(len(shown), len(found), "images")]


def _card(change: Change, pictures: Pictures) -> Safe:
    image = change.image
    name = _short(image["text"]) if image["text"] else _short(image["source_key"])
    split = f" · {image['split']}" if image["split"] and image["verdict"] == "kept" else ""
    words = el(
        "div", el("b", _short(image["source_key"])), el("span", _short(image["text"] or "")),
        el("span", f"{judged(image)}{split}"), el("span", cut(change.why, _WORDS, tell=False)),
        el("span", el("code", image["sha256"][:16])), class_="words",
    )  # fmt: skip
    return el("li", pictures.cell(change, name), words, class_="pair")


def _short(text: object) -> str:
    return "none" if text is None else cut(str(text), _WORDS, tell=False)


def _thumbnail(data: bytes, row: Row, side: int) -> Image.Image | None:
    known = (row["width"] or 0) * (row["height"] or 0)
    try:
        pixels = images.decode(data, row["matte"], max_pixels=known or _MOST_PIXELS).pixels
    except (images.Damaged, ValueError):
        return None
    shown = Image.fromarray(pixels)
    times = side // max(shown.size)
    return shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST) if times > 1 else shown
