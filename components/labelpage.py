"""The parts of the data report on labels, captions and the balance of the splits."""

from __future__ import annotations

import math

import pandas as pd

from components import charts
from components.datapage import NO_LABEL, Limits, split_counts
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
    hidden,
    note,
    plural,
    share,
    table,
)  # fmt: skip
from components.page import (
    charts as side_by_side,
)

_BARS = 30  # labels in one chart; past that the rest are one bar
_LONGEST = 10  # captions shown
_Z = 1.96  # normal quantile of a two-sided 95 % interval


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
             "from its train images only; a label with few of them will be drawn badly."),
        side_by_side(figure(charts.bars("Kept images by label", entries, unit="images", names=SPLITS),
                            "Length is the number of kept images; colours say in which split they are.")),
        table(["Label", "Images", "Share", *SPLITS], rows[: limits.rows], caption="Kept images by label and split",
              numbers=range(1, 7), total=len(rows)),
    ])  # fmt: skip


def captions(data: Evidence, limits: Limits) -> Section:
    """How long the captions of kept images are, and the longest of them."""
    texts = data.kept["text"].dropna()
    texts = texts[texts != ""]
    if not len(texts):
        return Section("captions", "Captions", [empty("No kept image has a caption.")])
    lengths = texts.str.len()
    order = lengths.sort_values(ascending=False, kind="stable").index[: min(_LONGEST, limits.rows)]
    most, names = limits.characters, data.kept["source_key"]
    rows = [[cut(texts[at], most), count(lengths[at]), cut(names[at], most)] for at in order]
    return Section("captions", "Captions", [
        note(f"{plural(len(texts), 'kept image')} of {len(data.kept):,} have a caption, {texts.nunique():,} of them "
             f"different; half are shorter than {lengths.median():,.0f} characters. Characters that cannot be seen "
             "are written out, like ⟨U+202E⟩."),
        table(["Caption", "Characters", "Image"], rows, caption="The longest captions", numbers=[1], total=len(texts)),
    ])  # fmt: skip


def balance(data: Evidence, limits: Limits) -> Section:
    """Whether each label has its share in each split, with the deviation that chance alone gives."""
    kept = _labelled(data)
    totals = split_counts(data)
    placed = sum(totals[name] for name in SPLITS[:3])
    if not placed:
        return Section("balance", "Split balance", [empty("No image is in a split.")])
    counts = _by_label(kept)
    leaks, straddling = data.leaks, _straddling(data)
    verdict = (
        f"Of {plural(len(data.pairs), 'pair')} of images that look alike, none lies in two of train, val and test."
        if not leaks and not straddling
        else f"{plural(leaks, 'pair')} of images that look alike and {plural(straddling, 'group')} lie in more than "
        "one of train, val and test: the test scores will be too good."
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
             f"{share(totals['val'], placed)} for validation and {share(totals['test'], placed)} for testing. "
             "Wanted is what a label would have if it followed these shares exactly. Whiskers are 95 % intervals "
             "of what chance gives for single images; groups move together, so a label with large groups may stray "
             "further. Bold: outside the interval."),
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


def _straddling(data: Evidence) -> int:
    placed = data.kept[data.kept["split"].isin(SPLITS[:3])]
    return int((placed.groupby("group")["split"].nunique() > 1).sum())


def _wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (E. B. Wilson 1927)."""
    if not whole:
        return 0.0, 1.0
    p, z2 = part / whole, _Z * _Z
    middle, spread = p + z2 / (2 * whole), _Z * math.sqrt(p * (1 - p) / whole + z2 / (4 * whole * whole))
    return max(0.0, (middle - spread) / (1 + z2 / whole)), min(1.0, (middle + spread) / (1 + z2 / whole))
