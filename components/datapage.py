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
    splits = split_counts(data)
    sentence = (
        f"{plural(len(images), 'image')} came in from {plural(sources, 'source')}; {kept:,} "
        f"({share(kept, len(images))}) are kept for training and testing."
    )
    groups = grouped(data).groupby("group").size()
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
    kept, splits = len(data.kept), split_counts(data)
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
        note("Entries of a source that never became images: unsafe names, links, devices, unreadable members, "
             "metadata without a file. Nothing of them was kept."),
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
    histogram, words = _sides(longer.astype(int))
    common = known.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    sizes = [[f"{int(width):,} × {int(height):,}", count(number), share(number, len(known))]
             for (width, height), number in common.items()]  # fmt: skip
    figures = [figure(charts.columns("Longer side", histogram, x_unit="pixels", y_unit="images"),
                      words)]  # fmt: skip
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
        table(["Width × height", "Images", "Share"], sizes[: min(limits.rows, 20)],
              caption="Most frequent sizes, pixels", numbers=[1, 2], total=len(sizes)),
        table(["File size", "Bytes"], files_, caption="Bytes of a file", numbers=[1]),
    ])  # fmt: skip


def split_counts(data: Evidence) -> dict[str, int]:
    """Kept images in each split."""
    found = data.kept["split"].value_counts()
    return {name: int(found.get(name, 0)) for name in SPLITS}


def _shares(splits: dict[str, int]) -> str:
    placed = sum(splits[name] for name in SPLITS[:3]) or 1
    return " / ".join(f"{100 * splits[name] / placed:.0f}" for name in SPLITS[:3]) + " %"


def grouped(data: Evidence) -> pd.DataFrame:
    """The images that have a group and are not withdrawn: kept ones, and copies that were rejected."""
    return data.images[data.images["group"].notna() & (data.images["verdict"] != "withdrawn")]


def _sides(longer: pd.Series) -> tuple[list[tuple[str, int]], str]:
    """Counts by side, or by powers of two when there are many sides; and the words under the chart."""
    exact = longer.value_counts().sort_index()
    if len(exact) <= 8:
        return [(f"{side:,}", int(number)) for side, number in exact.items()], "How large the sources are."
    low = longer.map(lambda side: 2 ** int(math.log2(side))).value_counts().sort_index()
    steps = [(f"{step:,}–{2 * step - 1:,}", int(number)) for step, number in low.items()]
    return steps[-8:], "How large the sources are, in steps of two."


def _verdict(images: pd.DataFrame, column: str, name: str, verdict: str) -> int:
    return int(((images[column].fillna("unknown") == name) & (images["verdict"] == verdict)).sum())


def _ranked(counts: pd.Series) -> list[tuple[str, int]]:
    return sorted(((str(name), int(number)) for name, number in counts.items()), key=lambda pair: (-pair[1], pair[0]))


def _words(reason: object) -> str:
    return str(reason).replace("_", " ")
