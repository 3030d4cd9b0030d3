"""The parts of the data report that are numbers: sources, refusals, shapes, labels, balance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from components import charts
from components.evidence import Evidence
from components.pack import SPLITS
from components.page import (
    Child,
    Section,
    count,
    cut,
    el,
    empty,
    figure,
    fold,
    hidden,
    note,
    plural,
    share,
    size,
    table,
    tiles,
)  # fmt: skip
from components.page import (
    charts as side_by_side,
)

REASONS = {
    "duplicate": "The same bytes, or the same pixels, as an image that came before it.",
    "near_duplicate": "The same picture as one that is kept, in another size, crop or compression.",
    "damaged": "The file is an image, but it cannot be decoded whole. Nothing of it is used.",
    "not_an_image": "The bytes are no image in any format that can be read.",
    "format": "An image, in a format that is not accepted.",
    "too_small": "Smaller than the least side that is accepted.",
    "too_large": "More pixels than are accepted. It was never decoded.",
    "metadata_missing": "No row of the metadata speaks of it.",
}
NO_LABEL = "(no label)"
_BARS = 30  # labels in one chart; past that the rest are one bar
_Z = 1.96  # normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most table rows, characters of a text, pictures in a list, members of a group, pictures of a class."""

    rows: int
    characters: int
    pictures: int
    members: int
    per_class: int


def summary(data: Evidence) -> Child:
    """The first screen: one sentence and the numbers that matter most."""
    images = data.images
    verdicts = images["verdict"].value_counts()
    kept, rejected, withdrawn = (int(verdicts.get(name, 0)) for name in ("kept", "rejected", "withdrawn"))
    sources = images["source"].nunique()
    splits = _split_counts(data)
    sentence = (
        f"{plural(len(images), 'image')} came in from {plural(sources, 'source')}; {kept:,} "
        f"({share(kept, len(images))}) are kept for training and testing."
    )
    groups = _group_sizes(data)
    shared = int((groups > 1).sum())
    return [
        el("p", sentence),
        tiles([
            ("Came in", count(len(images)), f"{size(images['size'].sum())}, "
                                            f"{plural(images['sha256'].nunique(), 'distinct file')}"),
            ("Refused", count(len(data.refused)), "before they became images"),
            ("Rejected", count(rejected), f"{share(rejected, len(images))} of what came in"),
            ("Withdrawn", count(withdrawn), "no longer in their source; not used"),
            ("Kept", count(kept), f"{data.header.side} × {data.header.side} pixels each"),
            ("Groups of near-duplicates", count(shared), f"{plural(int(groups[groups > 1].sum()), 'image')} in them"),
            ("Train / val / test", _shares(splits), " / ".join(count(splits[name]) for name in SPLITS[:3]) + " images"),
            ("Quarantine", count(splits["quarantine"]), "kept out of every split"),
        ]),
    ]  # fmt: skip


def came_in(data: Evidence, limits: Limits) -> Section:
    """Sources with licences, bytes and verdicts."""
    images = data.images
    flags = {name: images["verdict"] == name for name in ("kept", "rejected", "withdrawn")}
    counted = images.assign(**flags, labelled=images["label"].notna(), texts=images["text"].notna())
    by = counted.groupby(["source", "licence"], dropna=False, sort=True)
    sums = by.agg(
        images=("arrival", "size"), bytes=("size", "sum"), kept=("kept", "sum"), rejected=("rejected", "sum"),
        withdrawn=("withdrawn", "sum"), labelled=("labelled", "sum"), texts=("texts", "sum"),
    )  # fmt: skip
    rows = [
        [cut(source, limits.characters), cut(licence, limits.characters) or "(none given)", count(row.images),
         size(row.bytes), count(row.kept), count(row.rejected), count(row.withdrawn), share(row.labelled, row.images),
         share(row.texts, row.images)]
        for (source, licence), row in zip(sums.index, sums.itertuples(), strict=True)
    ]  # fmt: skip
    header = ["Source", "Licence", "Images", "Bytes", "Kept", "Rejected", "Withdrawn", "With label", "With caption"]
    body = [
        note("One row for each source and licence. An image that came twice under two names counts twice here."),
        table(header, rows[: limits.rows], caption="Sources", numbers=range(2, 9), total=len(rows)),
    ]
    kept, splits = len(data.kept), _split_counts(data)
    steps = [("came in", [len(images)]), ("kept by clean", [kept])]
    steps += [(name, [splits[name]]) for name in SPLITS]
    reasons = images.loc[images["verdict"] == "rejected", "reason"].value_counts()
    figures = [figure(charts.bars("From source to split", steps, unit="images"),
                      "Each bar counts images that are left after that step, then where they went.")]  # fmt: skip
    if len(reasons):
        dropped = [(_words(name), [number]) for name, number in _ranked(reasons)]
        figures.append(figure(charts.bars("Rejected, by reason", dropped, unit="images"),
                              "Why images were left out. Each one is listed below, with its evidence."))  # fmt: skip
    return Section("sources", "What came in", [*body, side_by_side(*figures)])


def refused(data: Evidence, limits: Limits) -> Section:
    """What collect did not take in at all."""
    rows = data.refused
    if not len(rows):
        return Section(
            "refused", "Refused before it came in", [empty("Nothing was refused: every entry became an image.")]
        )
    reasons = [[_words(name), count(number)] for name, number in _ranked(rows["reason"].value_counts())]
    shown = [
        [
            cut(row.source_key, limits.characters),
            _words(row.reason),
            cut(row.detail, limits.characters),
            cut(row.source, limits.characters),
        ]
        for row in rows.head(limits.rows).itertuples()
    ]
    body = [
        note("Entries of a source that never became images: unsafe names, links, devices, unreadable members, metadata "
             "without a file. Nothing of them was kept."),
        table(["Reason", "Entries"], reasons, caption="Refused, by reason", numbers=[1]),
        fold("Every refused entry",
             table(["Entry", "Reason", "Detail", "Source"], shown, caption="Refused entries", total=len(rows)),
             count=len(rows), open_=len(rows) <= 20),
    ]  # fmt: skip
    return Section("refused", "Refused before it came in", body)


def shapes(data: Evidence, limits: Limits) -> Section:
    """Sizes, modes and formats of what could be decoded."""
    known = data.images[data.images["width"].notna() & (data.images["width"] > 0)]
    if not len(known):
        return Section("shapes", "Sizes, modes and formats", [empty("No image could be decoded.")])
    longer = known[["width", "height"]].max(axis=1)
    low = longer.map(lambda side: 2 ** int(math.log2(side)))
    steps = sorted(low.unique())
    histogram = [(f"{step:,}–{2 * step - 1:,}" if step > 1 else "1", int((low == step).sum())) for step in steps[:12]]
    common = known.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    sizes = [[f"{int(width):,} × {int(height):,}", count(number), share(number, len(known))]
             for (width, height), number in common.items()]  # fmt: skip
    figures = [figure(charts.columns("Longer side", histogram, x_unit="pixels", y_unit="images"),
                      "How large the sources are, in steps of two.")]  # fmt: skip
    for column, title, words in (
        ("mode", "Pixel mode", "RGBA and LA have transparency, P a palette; all become one mode in the pack."),
        ("format", "File format", "As the bytes say it, whatever the name ends in."),
    ):
        entries = [(str(name), [_verdict(known, column, name, "kept"), _verdict(known, column, name, "rejected")])
                   for name, _ in _ranked(known[column].fillna("unknown").value_counts())[:12]]  # fmt: skip
        figures.append(figure(charts.bars(title, entries, unit="images", names=("kept", "rejected")), words))
    bytes_ = [(f"{name}", size(value)) for name, value in known["size"].quantile([0.0, 0.5, 0.95, 1.0]).items()]
    names = ("smallest", "median", "95th percentile", "largest")
    files_ = [[name, value] for name, (_, value) in zip(names, bytes_, strict=True)]
    return Section("shapes", "Sizes, modes and formats", [
        note(f"{plural(len(known), 'image')} whose header could be read, before anything was resized."),
        side_by_side(*figures),
        table(["Width × height", "Images", "Share"], sizes[: min(limits.rows, 20)], caption="Most frequent "
                                                                                            "sizes, pixels",
              numbers=[1, 2], total=len(sizes)),
        table(["File size", "Bytes"], files_, caption="Bytes of a file", numbers=[1]),
    ])  # fmt: skip


def labels(data: Evidence, limits: Limits) -> Section:
    """Kept images by label and split."""
    kept = _labelled(data)
    if not data.kept["label"].notna().any():
        return Section("labels", "Labels", [empty("No kept image has a label: training is unconditional.")])
    counts = _by_label(kept)
    entries = [(name, [int(row[split]) for split in SPLITS]) for name, row in counts.head(_BARS).iterrows()]
    rest = counts.iloc[_BARS:]
    if len(rest):
        entries.append((f"{len(rest)} more labels", [int(rest[split].sum()) for split in SPLITS]))
    rows = [
        [
            cut(name, limits.characters),
            count(row.sum()),
            share(row.sum(), len(kept)),
            *(count(row[split]) for split in SPLITS),
        ]
        for name, row in counts.iterrows()
    ]
    return Section("labels", "Labels", [
        note(f"{plural(len(counts), 'label')} on {plural(len(kept), 'kept image')}. The model learns each label "
             "from its "
             "train images only; a label with few of them will be drawn badly."),
        side_by_side(figure(charts.bars("Kept images by label", entries, unit="images", names=SPLITS),
                            "Length is the number of kept images; colours say in which split they are.")),
        table(["Label", "Images", "Share", *SPLITS], rows[: limits.rows], caption="Kept images by label and split",
              numbers=range(1, 7), total=len(rows)),
    ])  # fmt: skip


def balance(data: Evidence, limits: Limits) -> Section:
    """Whether each label has its share in each split, with the deviation that chance alone gives."""
    kept = _labelled(data)
    totals = _split_counts(data)
    placed = sum(totals[name] for name in SPLITS[:3])
    if not placed:
        return Section("balance", "Split balance", [empty("No image is in a split.")])
    counts = _by_label(kept)
    leaks, straddling = data.leaks, _straddling(data)
    verdict = (
        f"Of {plural(len(data.pairs), 'pair')} of images that look alike, none lies in two of train, val and test."
        if not leaks and not straddling
        else f"{plural(leaks, 'pair')} of images that look alike and {plural(straddling, 'group')} lie in more "
        "than one of train, "
        "val and test: the test scores will be too good."
    )
    rows, plots = [], {name: [] for name in SPLITS[:3]}
    for label, row in counts.iterrows():
        whole = int(row[list(SPLITS[:3])].sum())
        cells: list[Child] = [cut(label, limits.characters), count(whole)]
        for split in SPLITS[:3]:
            wanted = totals[split] / placed
            low, high = _wilson(int(row[split]), whole)
            got, hoped = int(row[split]), whole * wanted
            apart = low > wanted or high < wanted
            cells += [
                count(got),
                f"{hoped:,.1f}",
                el("strong", f"{got - hoped:+.1f}") if apart else f"{got - hoped:+.1f}",
            ]
            if whole:
                plots[split].append(
                    charts.Whisker(name=str(label), value=100 * got / whole, low=100 * low, high=100 * high)
                )
        rows.append(cells)
    header = ["Label", "Images"]
    for split in SPLITS[:3]:
        header += [split, "wanted", "off by"]
    figures = [
        figure(charts.whiskers(f"Share of each label in {split}", plots[split][:_BARS], unit="% of the label's images",
                               reference=100 * totals[split] / placed),
               f"Dashed: the share that {split} has of all images, {share(totals[split], placed)}.")
        for split in ("test", "val")
    ]  # fmt: skip
    return Section("balance", "Split balance", [
        el("p", verdict, class_="warn" if leaks or straddling else None),
        note(f"Of {plural(placed, 'image')}, {share(totals['train'], placed)} are for training, "
             f"{share(totals['val'], placed)} "
             f"for validation and {share(totals['test'], placed)} for testing. Wanted is what a label would "
             "have if it followed "
             "these shares exactly. Whiskers are 95 % intervals of what chance gives for single images; groups move "
             "together, so a label with large groups may stray further. Bold: outside the interval."),
        side_by_side(*figures),
        table(header, rows[: limits.rows], caption="Stratified by label: got, wanted and the difference, in images",
              numbers=range(1, 11), total=len(rows)),
        hidden(_BARS, len(counts), "labels drawn in the charts"),
    ])  # fmt: skip


def _labelled(data: Evidence) -> pd.DataFrame:
    kept = data.kept
    return kept.assign(label=kept["label"].fillna(NO_LABEL), split=kept["split"].fillna("quarantine"))


def _by_label(kept: pd.DataFrame) -> pd.DataFrame:
    counts = kept.groupby(["label", "split"]).size().unstack(fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
    order = sorted(counts.index, key=lambda name: (-int(counts.loc[name].sum()), name))
    return counts.loc[order]


def _split_counts(data: Evidence) -> dict[str, int]:
    found = data.kept["split"].value_counts()
    return {name: int(found.get(name, 0)) for name in SPLITS}


def _shares(splits: dict[str, int]) -> str:
    placed = sum(splits[name] for name in SPLITS[:3]) or 1
    return " / ".join(f"{100 * splits[name] / placed:.0f}" for name in SPLITS[:3]) + " %"


def _group_sizes(data: Evidence) -> pd.Series:
    return data.kept.groupby("group").size()


def _straddling(data: Evidence) -> int:
    placed = data.kept[data.kept["split"].isin(SPLITS[:3])]
    return int((placed.groupby("group")["split"].nunique() > 1).sum())


def _verdict(images: pd.DataFrame, column: str, name: str, verdict: str) -> int:
    return int(((images[column].fillna("unknown") == name) & (images["verdict"] == verdict)).sum())


def _ranked(counts: pd.Series) -> list[tuple[str, int]]:
    return sorted(((str(name), int(number)) for name, number in counts.items()), key=lambda pair: (-pair[1], pair[0]))


def _words(reason: object) -> str:
    return str(reason).replace("_", " ")


def _wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (E. B. Wilson 1927)."""
    if not whole:
        return 0.0, 1.0
    p, z2 = part / whole, _Z * _Z
    middle, spread = p + z2 / (2 * whole), _Z * math.sqrt(p * (1 - p) / whole + z2 / (4 * whole * whole))
    return max(0.0, (middle - spread) / (1 + z2 / whole)), min(1.0, (middle + spread) / (1 + z2 / whole))
