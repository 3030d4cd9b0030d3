"""The parts of the data report on likeness: groups with the evidence of their pairs, and the quarantine."""

from __future__ import annotations

from typing import Any

import pandas as pd

from components.describe import paircards
from components.describe.evidence import Evidence, Gallery
from components.describe.overview import Limits, grouped
from components.html import charts, page
from components.html.page import Child, Safe, Section, el
from components.samples.pack import SPLITS

_PAIRS = 6  # pairs enlarged under one group
_JOINED = 3  # members shown of each group that a quarantined image would join
_SIDES = 4  # groups shown beside a quarantined image, of each split the closest first
_OPEN = 12  # groups, and quarantined images, that need no unfolding


def groups(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Groups of near-duplicates, largest first, with verdicts, splits and the evidence of their pairs."""
    title = "Groups of near-duplicates"
    images = grouped(data)
    sizes = images.groupby("group").size()
    sizes = sizes[sizes > 1]
    if not len(sizes):
        return Section("groups", title, [page.empty("No two images look alike: every image is a group of its own.")])
    images = images[images["group"].isin(sizes.index)]
    members = {key: sorted(found) for key, found in images.groupby("group").groups.items()}
    order = sorted(members, key=lambda key: (-len(members[key]), members[key][0]))
    pairs = _by_group(data)
    body: list[Child] = [
        page.note("Images that look alike stay together in one split, so that no test image was nearly seen in "
                  "training. Those that differ in colour or detail are different pictures and are kept; copies are "
                  "rejected. The largest groups come first; under each, its pairs side by side, those with the "
                  "weakest evidence first."),
        page.side_by_side(
            page.figure(charts.columns("Images in a group", _steps(sizes), x_unit="images in a group", y_unit="groups"),
                        f"{page.plural(len(sizes), 'group')} of two or more, "
                        f"{page.plural(int(sizes.sum()), 'image')} in them."),
            _methods(data),
        ),
    ]  # fmt: skip
    drawn: list[Safe] = []
    room = limits.pictures
    for key in order:
        shown = members[key][: min(limits.members, room)]
        if len(shown) < 2:
            break
        room -= len(shown)
        drawn.append(_group(data, members[key], shown, pairs.get(key, []), gallery, open_=len(drawn) < 2))
    body += drawn[:_OPEN]
    if len(drawn) > _OPEN:
        body.append(page.fold("Smaller groups", drawn[_OPEN:], count=len(drawn) - _OPEN))
    body.append(page.hidden(len(drawn), len(sizes), "groups"))
    return Section("groups", title, body)


def _group(
    data: Evidence, members: list[int], shown: list[int], pairs: list[Any], gallery: Gallery, *, open_: bool
) -> Safe:
    cells = [paircards.member(data.rows[arrival], gallery) for arrival in shown]
    found = {data.rows[arrival].split for arrival in members}
    splits = [name for name in SPLITS if name in found]
    cards = [paircards.compared(data, pair, gallery) for pair in pairs[:_PAIRS]]
    first = paircards.name(data.rows[members[0]])
    return page.fold(
        [first, " and ", f"{len(members) - 1:,} more", " · ", ", ".join(splits)],
        el("ul", cells, class_="strip"),
        page.hidden(len(shown), len(members), "members"),
        [el("h4", "Pair by pair"), el("ul", cards, class_="compares")] if cards else None,
        page.hidden(len(cards), len(pairs), "pairs"),
        open_=open_,
        count=len(members),
    )


def _by_group(data: Evidence) -> dict[str, list[Any]]:
    """The pairs inside each group, the weakest evidence first."""
    group = data.images["group"]
    inside = data.pairs[data.pairs["a"].map(group) == data.pairs["b"].map(group)]
    ranked = inside.sort_values(["distance", "difference", "a", "b"], ascending=[False, False, True, True],
                                na_position="last", kind="stable")  # fmt: skip
    found: dict[str, list[Any]] = {}
    for pair, key in zip(ranked.itertuples(index=False), ranked["a"].map(group), strict=True):
        found.setdefault(key, []).append(pair)
    return found


def _methods(data: Evidence) -> Safe | None:
    """A chart of how the pairs were found, and what came of them."""
    if not len(data.pairs):
        return None
    counts = data.pairs.groupby(["how", "same"]).size()
    order = [*(method for method in paircards.METHODS if method in set(data.pairs["how"])),
             *sorted(set(data.pairs["how"]) - set(paircards.METHODS))]  # fmt: skip
    entries = [(paircards.METHODS.get(method, method), [int(counts.get((method, same), 0)) for same in (True, False)])
               for method in order]  # fmt: skip
    return page.figure(
        charts.bars("How pairs were found", entries, unit="pairs", names=("one picture", "alike")),
        "One picture: the better one is kept. Alike: both are kept, in one split.",
    )


def quarantine(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Images kept out of every split, each beside the groups that it would have joined."""
    rows = data.images[(data.images["split"] == "quarantine") & (data.images["verdict"] != "withdrawn")]
    if not len(rows):
        return Section("quarantine", "Quarantine", [page.empty("Nothing is in quarantine.")])
    touched = _touched(data, set(rows["arrival"]))
    cards, room = [], limits.pictures
    for arrival in rows["arrival"]:
        joined = _sides(data, touched.get(arrival, {}))
        room -= 1 + sum(min(len(ends), _JOINED) for ends in joined[:_SIDES])
        if room < 0:
            break
        cards.append(_quarantined(data, data.rows[arrival], joined, gallery))
    return Section("quarantine", "Quarantine", [
        page.note("Newcomers that look like images of two different splits. They belong to neither, so nobody trains "
                  "on them and nothing is tested on them. Each stands beside the images that it resembles, by the "
                  "group and split of these."),
        el("ul", cards[:_OPEN], class_="torn"),
        page.fold("The other images in quarantine", el("ul", cards[_OPEN:], class_="torn"), count=len(cards) - _OPEN)
        if len(cards) > _OPEN else None,
        page.hidden(len(cards), len(rows), "images"),
    ])  # fmt: skip


def _touched(data: Evidence, quarantined: set[int]) -> dict[int, dict[str, list[Any]]]:
    """For each of ``quarantined`` its pairs with earlier images, by these images' group; the closest first."""
    found: dict[int, dict[str, list[Any]]] = {}
    ranked = data.pairs[data.pairs["b"].isin(quarantined)].sort_values(
        ["distance", "difference", "a"], na_position="last", kind="stable"
    )
    for pair in ranked.itertuples(index=False):
        other = data.rows[pair.a]
        if other.split in SPLITS[:3]:
            found.setdefault(pair.b, {}).setdefault(other.group, []).append(pair)
    return found


def _sides(data: Evidence, joined: dict[str, list[Any]]) -> list[list[Any]]:
    """The groups of ``joined``: of each split the closest one, then the others."""
    first: dict[str, int] = {}
    for pairs in joined.values():
        first.setdefault(data.rows[pairs[0].a].split, pairs[0].a)
    return sorted(joined.values(), key=lambda pairs: pairs[0].a not in first.values())


def _quarantined(data: Evidence, row: Any, joined: list[list[Any]], gallery: Gallery) -> Safe:
    sides = []
    for pairs in joined[:_SIDES]:
        best = data.rows[pairs[0].a]
        pictures = [gallery.cell(pair.a, paircards.name(data.rows[pair.a])) for pair in pairs[:_JOINED]]
        more = f" and {len(pairs) - 1:,} more" if len(pairs) > 1 else ""
        sides.append(el(
            "div", el("div", pictures, class_="both"),
            el("div", el("span", el("span", best.split, class_=f"tag {best.split}")),
               el("b", f"{paircards.name(best)}{more}"), el("span", paircards.line(pairs[0], data.bits)),
               class_="words"),
            class_="side",
        ))  # fmt: skip
    own = el("div", gallery.cell(row.arrival, paircards.name(row)),
             el("div", el("b", paircards.name(row)), class_="words"), class_="own")  # fmt: skip
    beside = el("div", sides, page.hidden(len(sides), len(joined), "groups"), class_="sides")
    return el("li", own, beside, title=paircards.identity(row))


def _steps(sizes: pd.Series) -> list[tuple[str, int]]:
    """How many groups have 2, 3 to 4, 5 to 8, ... members."""
    steps, low, high = [], 2, 2
    while low <= sizes.max():
        steps.append((f"{low}" if low == high else f"{low}–{high}", int(sizes.between(low, high).sum())))
        low, high = high + 1, high * 2
    return steps
