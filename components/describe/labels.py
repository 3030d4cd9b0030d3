"""The parts of the data report on labels, captions and the balance of the splits."""

from __future__ import annotations

import math

import pandas as pd

from components.describe.evidence import Evidence
from components.describe.overview import NO_LABEL, Limits, split_counts
from components.describe.sizes import histogram
from components.html import charts, page
from components.html.page import Child, Section, cut, el
from components.samples.pack import SPLITS

_BARS = 30  # labels in one chart; past that the rest are one bar
_LONGEST = 10  # captions shown
_Z = 1.96  # normal quantile of a two-sided 95 % interval


def labels(data: Evidence, limits: Limits) -> Section:
    """Kept images by label and split."""
    kept = _labelled(data)
    if not data.kept["label"].notna().any():
        return Section("labels", "Labels", [page.empty("No kept image has a label: training is unconditional.")])
    counts = _by_label(kept)
    entries = [(name, [int(row[split]) for split in SPLITS]) for name, row in counts.head(_BARS).iterrows()]
    rest = counts.iloc[_BARS:]
    if len(rest):
        entries.append((f"{len(rest)} more labels", [int(rest[split].sum()) for split in SPLITS]))
    rows = [
        [cut(name, limits.characters), page.count(row.sum()), page.share(row.sum(), len(kept)),
         *(page.count(row[split]) for split in SPLITS)]
        for name, row in counts.iterrows()
    ]  # fmt: skip
    figures = [page.figure(charts.bars("Kept images by label", entries, unit="images", names=SPLITS),
                           "Length is the number of kept images; colours say in which split they are.")]  # fmt: skip
    if len(rest):
        spread = histogram(counts.sum(axis=1).astype(float))
        figures.append(page.figure(charts.columns("Labels by their images", spread, x_unit="images", y_unit="labels"),
                                   "How many labels have that many kept images."))  # fmt: skip
    return Section("labels", "Labels", [
        page.note(f"{page.plural(len(counts), 'label')} on {page.plural(len(kept), 'kept image')}. The model learns "
                  "each label from its train images only; a label with few of them will be drawn badly."),
        page.side_by_side(*figures),
        page.table(["Label", "Images", "Share", *SPLITS], rows[: limits.rows], numbers=range(1, 7), total=len(rows),
                   caption="Kept images by label and split"),
    ])  # fmt: skip


def captions(data: Evidence, limits: Limits) -> Section:
    """How long the captions of kept images are, and the longest of them."""
    texts = data.kept["text"].dropna()
    texts = texts[texts != ""]
    if not len(texts):
        return Section("captions", "Captions", [page.empty("No kept image has a caption.")])
    lengths = texts.str.len()
    order = lengths.sort_values(ascending=False, kind="stable").index[: min(_LONGEST, limits.rows)]
    most, names = limits.characters, data.kept["source_key"]
    rows = [[cut(texts[at], most), page.count(lengths[at]), cut(names[at], most)] for at in order]
    return Section("captions", "Captions", [
        page.note(f"{page.plural(len(texts), 'kept image')} of {len(data.kept):,} have a caption, "
                  f"{texts.nunique():,} of them different; half are shorter than {lengths.median():,.0f} characters. "
                  "Characters that cannot be seen are written out, like ⟨U+202E⟩."),
        page.table(["Caption", "Characters", "Image"], rows, caption="The longest captions", numbers=[1],
                   total=len(texts)),
    ])  # fmt: skip


def balance(data: Evidence, limits: Limits) -> Section:
    """Whether each label has its share in each split, with the deviation that chance alone gives."""
    totals = split_counts(data)
    placed = sum(totals[name] for name in SPLITS[:3])
    if not placed:
        return Section("balance", "Split by label", [page.empty("No image is in a split.")])
    counts = _by_label(_labelled(data))
    leaks, straddling = data.leaks, _straddling(data)
    pairs, torn = page.plural(len(data.pairs), "pair"), page.plural(leaks, "pair")
    verdict = (
        f"Of {pairs} of images that look alike, none lies in two of train, val and test."
        if not leaks and not straddling
        else f"{torn} of images that look alike and {page.plural(straddling, 'group')} lie in more than one of "
        "train, val and test: the test scores will be too good."
    )
    rows, plots = _stratified(counts, {name: totals[name] / placed for name in SPLITS[:3]}, limits)
    header = ["Label", "Images"]
    for split in SPLITS[:3]:
        header += [split, "even", "off by"]
    figures = [
        page.figure(charts.whiskers(f"Share of each label in {split}", plots[split][:_BARS],
                                    unit="% of the label's images", reference=100 * totals[split] / placed),
                    f"Dashed: the share that {split} has of all images, {page.share(totals[split], placed)}.")
        for split in ("test", "val")
    ]  # fmt: skip
    return Section("balance", "Split by label", [
        el("p", verdict, class_="warn" if leaks or straddling else None),
        page.note(f"Of {page.plural(placed, 'image')}, {page.share(totals['train'], placed)} are for training, "
                  f"{page.share(totals['val'], placed)} for validation and {page.share(totals['test'], placed)} for "
                  "testing. Even is what a label would have if it were spread over the splits as all images "
                  "together are. Whiskers are 95 % intervals of what chance gives for single images; groups move "
                  "together, so a label with large groups may stray further. Bold: outside the interval."),
        page.side_by_side(*figures),
        page.table(header, rows[: limits.rows], numbers=range(1, 11), total=len(rows),
                   caption="Stratified by label: images, an even share of them, and the difference"),
        page.hidden(_BARS, len(counts), "labels drawn in the charts"),
    ])  # fmt: skip


def _stratified(
    counts: pd.DataFrame, shares: dict[str, float], limits: Limits
) -> tuple[list[list[Child]], dict[str, list[charts.Whisker]]]:
    """A row and a whisker in each split for each label; ``shares`` are those of all images, 0 to 1."""
    rows: list[list[Child]] = []
    plots: dict[str, list[charts.Whisker]] = {name: [] for name in shares}
    for label, row in counts.iterrows():
        whole = int(row[list(shares)].sum())
        cells: list[Child] = [cut(label, limits.characters), page.count(whole)]
        for split, share in shares.items():
            got, even = int(row[split]), whole * share
            low, high = _wilson(got, whole)
            off = f"{got - even:+.1f}"
            cells += [page.count(got), f"{even:,.1f}", el("strong", off) if low > share or high < share else off]
            if whole:
                dot = charts.Whisker(name=str(label), value=100 * got / whole, low=100 * low, high=100 * high)
                plots[split].append(dot)
        rows.append(cells)
    return rows, plots


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
