"""The parts of the data report that are pictures: rejected twins, groups, quarantine, what training sees."""

from __future__ import annotations

import pandas as pd

from components import charts, pack
from components.datapage import NO_LABEL, REASONS, Limits, grouped
from components.evidence import Evidence, Gallery
from components.pack import SPLITS
from components.page import (
    Child,
    Safe,
    Section,
    count,
    cut,
    el,
    empty,
    figure,
    figures,
    fold,
    hidden,
    note,
    plural,
    table,
)  # fmt: skip
from components.page import (
    charts as side_by_side,
)
from components.sprites import Sprites

_PAIR_ROWS = 12  # rows of evidence under one group
_CARD = 60  # characters of a name beside a thumbnail


def rejected(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Each reason with its images, the kept twin beside the rejected one."""
    title = "Dropped, and why"
    dropped = data.images[data.images["verdict"] != "kept"]
    if not len(dropped):
        return Section("dropped", title, [empty("Nothing was dropped: every image that came in is kept.")])
    why = dropped["reason"].where(dropped["verdict"] == "rejected", "withdrawn").fillna("unknown")
    body: list[Child] = [
        note("The rejected picture is on the left; where it repeats another, the kept one is on the right. Bits "
             "are those of a 64-bit perceptual hash that see only shape; the difference compares colours, 0 "
             "(equal) to 1. The most doubtful cases come first."),
    ]  # fmt: skip
    counts = why.value_counts()
    for reason in sorted(counts.index, key=lambda name: (-counts[name], name)):
        rows = _doubtful_first(dropped[why == reason])
        cards = [_card(data, row, limits, gallery) for row in rows.head(limits.pictures).itertuples()]
        body.append(fold(
            str(reason).replace("_", " "),
            el("p", REASONS.get(reason, _OTHER.get(reason, "")), class_="note"),
            el("ul", cards, class_="strip") if cards else None,
            hidden(len(cards), len(rows), "images"),
            open_=True, count=len(rows),
        ))  # fmt: skip
    return Section("dropped", title, body)


_OTHER = {
    "withdrawn": "No longer in its source, or taken back. It is not used; its place is kept so that its group does "
    "not move."
}


def groups(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Groups of near-duplicates, largest first, with verdicts, splits and the evidence of their pairs."""
    title = "Groups of near-duplicates"
    images = grouped(data)
    sizes = images.groupby("group").size()
    sizes = sizes[sizes > 1]
    if not len(sizes):
        return Section("groups", title, [empty("No two images look alike: every image is a group of its own.")])
    first = images.groupby("group")["arrival"].min()
    order = sorted(sizes.index, key=lambda name: (-sizes[name], first[name]))
    pairs = data.pairs
    group_of = data.images["group"]
    pair_group = pairs["a"].map(group_of).where(pairs["a"].map(group_of) == pairs["b"].map(group_of))
    body: list[Child] = [
        note("Images that look alike stay together in one split, so that the test never asks for what training has "
             "seen. Those that differ in colour or detail are different pictures and are kept; copies are "
             "rejected. The largest groups come first."),
        side_by_side(figure(charts.columns("Images in a group", _steps(sizes), x_unit="images in a group",
                                           y_unit="groups"),
                            f"{plural(len(sizes), 'group')} of two or more, {plural(int(sizes.sum()), 'image')} in "
                            "them.")),
    ]  # fmt: skip
    drawn, room = 0, limits.pictures
    for name in order:
        members = images[images["group"] == name].sort_values("arrival")
        shown = members.head(min(limits.members, room))
        if len(shown) < 2:
            break
        cells = [_member(row, _tags(row), gallery) for row in shown.itertuples()]
        room -= len(shown)
        drawn += 1
        splits = sorted(set(members["split"].dropna()), key=list(SPLITS).index)
        body.append(fold(
            [_caption(members.iloc[0]), " and ", f"{len(members) - 1:,} more", " · ", ", ".join(splits)],
            el("ul", cells, class_="strip"),
            hidden(len(shown), len(members), "members"),
            _evidence(pairs[pair_group == name], data, limits),
            open_=drawn <= 3, count=len(members),
        ))  # fmt: skip
    body.append(hidden(drawn, len(sizes), "groups"))
    return Section("groups", title, body)


def quarantine(data: Evidence, limits: Limits, gallery: Gallery) -> Section:
    """Images kept out of every split because they tie two groups together."""
    rows = data.images[(data.images["split"] == "quarantine") & (data.images["verdict"] != "withdrawn")]
    if not len(rows):
        return Section("quarantine", "Quarantine", [empty("Nothing is in quarantine.")])
    cells = []
    for row in rows.head(limits.pictures).itertuples():
        tied = data.tied[(data.tied["a"] == row.arrival) | (data.tied["b"] == row.arrival)]
        alike = tied["split_b"].where(tied["a"] == row.arrival, tied["split_a"]).value_counts()
        tags = [
            Safe(el("span", f"{alike[name]} {name}", class_=f"tag {name}") + " ") for name in SPLITS if name in alike
        ]
        cells.append(_member(row, tags, gallery))
    return Section("quarantine", "Quarantine", [
        note("Newcomers that look like images of two different splits. They belong to neither, so nobody trains on "
             "them and nothing is tested on them. The marks say how many images of each split look like this one."),
        el("ul", cells, class_="strip"),
        hidden(len(cells), len(rows), "images"),
    ])  # fmt: skip


def seen(data: Evidence, limits: Limits, packed: Sprites) -> Section:
    """Pixels of the pack by label: exactly what training reads."""
    header = data.header
    train = data.kept[(data.kept["split"] == "train") & (data.kept["row"] >= 0)]
    if not len(train) or not limits.per_class:
        return Section("seen", "What training sees", [empty("No training image to show.")])
    ids = pack.read_classes(data.pixels)
    labels = [header.classes[ids[row]] if ids[row] >= 0 else NO_LABEL for row in train["row"]]
    train = train.assign(label=labels)
    entries: list[Child] = []
    names = sorted(set(labels), key=lambda name: (name == NO_LABEL, name))
    each = min(limits.per_class, max(1, limits.pictures // len(names)))
    for name in names[: max(1, limits.pictures)]:
        of_label = train[train["label"] == name]
        # By hash: a sample that looks random, stays the same, and changes little when images are added.
        shown = of_label.sort_values("sha256").head(each)
        cells = []
        for row in shown.itertuples():
            packed.add(str(row.row), data.pack_row(row.row))
            cells.append(packed.cell(str(row.row), f"{_plain(row.text, row.source_key, _CARD)} (training pixels)"))
        entries += [
            el("dt", cut(name, limits.characters), el("small", plural(len(of_label), "train image"))),
            el("dd", cells),
        ]
    return Section("seen", "What training sees", [
        note(f"Pixels of the pack, {header.side} × {header.side} with {header.channels} channels, enlarged "
             f"{packed.scale} times without smoothing: after transparency met the matte, after cropping and "
             "scaling. A few of each label, picked by their hash."),
        el("dl", entries, class_="samples"),
        hidden(len(entries) // 2, len(names), "labels"),
    ])  # fmt: skip


def _steps(sizes: pd.Series) -> list[tuple[str, int]]:
    """How many groups have 2, 3 to 4, 5 to 8, ... members."""
    steps, low, high = [], 2, 2
    while low <= sizes.max():
        steps.append((f"{low}" if low == high else f"{low}–{high}", int(sizes.between(low, high).sum())))
        low, high = high + 1, high * 2
    return steps


def _card(data: Evidence, row: object, limits: Limits, gallery: Gallery) -> Safe:
    name = _plain(row.text, row.source_key, _CARD)
    pictures = [gallery.cell(row.arrival, f"rejected: {name}")]
    twin = None
    if not pd.isna(row.twin_arrival) and int(row.twin_arrival) in data.images.index:
        twin = data.images.loc[int(row.twin_arrival)]
        pictures.append(gallery.cell(int(row.twin_arrival), f"kept: {_plain(twin['text'], twin['source_key'], _CARD)}"))
    evidence = [el("span", cut(row.detail, min(limits.characters, 2 * _CARD), tell=False))]
    if row.reason == "near_duplicate" and twin is not None:
        kept = _brief(twin["source_key"], limits)
        evidence = [el("span", _distance(row.distance, row.difference)), el("span", f"kept: {kept}")]
    words = [
        el("b", _brief(row.source_key, limits)),
        el("span", _brief(row.text, limits)),
        *evidence,
    ]
    return el("li", el("div", pictures, class_="both"), el("div", words, class_="words"), class_="pair")


def _member(row: object, tags: list[Safe], gallery: Gallery) -> Safe:
    name = _plain(row.text, row.source_key, _CARD)
    words = el("div", el("span", tags), name, class_="words")
    return el("li", gallery.cell(row.arrival, name), words, class_="cell")


def _tags(row: object) -> list[Safe]:
    names = [row.verdict] if row.verdict != "kept" or not isinstance(row.split, str) else [row.split]
    return [el("span", name, class_=f"tag {name}") for name in names]


def _evidence(pairs: pd.DataFrame, data: Evidence, limits: Limits) -> Safe | None:
    if not len(pairs):
        return None
    ranked = pairs.sort_values(["distance", "difference", "a", "b"])
    rows = [
        [_caption(data.images.loc[row.a]), _caption(data.images.loc[row.b]), count(row.distance),
         figures(row.difference), "same picture" if row.same else "alike, kept apart"]
        for row in ranked.head(min(_PAIR_ROWS, limits.rows)).itertuples()
    ]  # fmt: skip
    header = ["One", "Other", "Bits of 64", "Difference, 0 to 1", "Taken for"]
    grid = table(
        header, rows, caption="Pairs that hold the group together, closest first", numbers=[2, 3], total=len(pairs)
    )
    return fold("Evidence: pairs", grid, count=len(pairs))


def _distance(distance: object, difference: object) -> str | None:
    if pd.isna(distance):
        return None
    bits = "same hash" if int(distance) == 0 else f"{plural(int(distance), 'bit')} of 64 differ"
    return bits if pd.isna(difference) else f"{bits} · difference {figures(float(difference))}"


def _doubtful_first(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["distance", "difference", "arrival"]
    return rows.sort_values(keys, ascending=[False, False, True], na_position="last", kind="stable")


def _caption(row: pd.Series) -> str:
    return _plain(row["text"], row["source_key"], _CARD)


def _plain(text: object, key: object, limit: int) -> str:
    return cut(text, limit, tell=False) or cut(key, limit, tell=False)


def _brief(text: object, limits: Limits) -> str:
    return cut(text, min(limits.characters, _CARD), tell=False)
