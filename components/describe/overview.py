"""The parts of the data report on what came in: the headline, sources and licences, files not imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from components.describe.evidence import Evidence
from components.html import charts, page
from components.html.page import Child, Safe, Section, cut, el
from components.samples import manifest
from components.samples.pack import SPLITS

REASONS = {
    "duplicate": "The same bytes, or the same pixels, as an image that came before it.",
    "near_duplicate": "The same picture as one that is kept, in another size, crop or compression.",
    "damaged": "The file is an image, but it cannot be decoded whole. Nothing of it is used.",
    "not_an_image": "The bytes are no image in any format that can be read.",
    "format": "An image, in a format that is not accepted.",
    "too_small": "Smaller than the least side that is accepted.",
    "too_large": "More pixels than are accepted. It was never decoded.",
    "undecided": "Its decoder was stopped several times: out of time, or killed. It is tried again next time.",
    "withdrawn": "The same picture as one that was withdrawn by hand: it does not come back under another name.",
    "curator": "A curator does not want it. The decision, with its reason, is listed below.",
    "against": "Of a set that must not be trained on (clean.against): it is only compared with.",
    "contaminated": "Shows what an image of such a set shows: trained on, it would spoil what is measured there.",
    "metadata_missing": "The metadata has no row for it.",
}
NO_LABEL = "(no label)"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that is shown: rows of a table, characters of a text, pictures in a list, members of a group, and
    pictures of a class.
    """

    rows: int
    characters: int
    pictures: int
    members: int
    per_class: int


_LEFT = ("gone", "withdrawn")
"""Why an image that was taken in is not used any more: its source has it no more, or somebody withdrew it."""


def summary(data: Evidence) -> Child:
    """The first screen: one sentence and the numbers that matter most."""
    images = data.images
    verdicts = images["verdict"].value_counts()
    kept, rejected = (int(verdicts.get(name, 0)) for name in ("kept", "rejected"))
    left = images.loc[images["verdict"] == "withdrawn", "reason"].value_counts()
    gone, by_hand = (int(left.get(name, 0)) for name in _LEFT)
    sources = images["source"].nunique()
    splits = split_counts(data)
    placed = int(data.kept["position"].sum())
    sentence = (
        f"{page.plural(len(images), 'image')} came in from {page.plural(sources, 'source')}; {kept:,} "
        f"({page.share(kept, len(images))}) are kept for training and testing."
    )
    groups = grouped(data).groupby("group").size()
    shared = int((groups > 1).sum())
    alike = page.plural(int(groups[groups > 1].sum()), "image")
    return [
        el("p", sentence),
        page.tiles([
            ("Came in", page.count(len(images)), f"{page.size(images['size'].sum())}, "
                                                 f"{page.plural(images['sha256'].nunique(), 'distinct file')}"),
            ("Not imported", page.count(len(data.refused)), "files that are no usable image"),
            ("Rejected", page.count(rejected), f"{page.share(data.rejected_share, 1)} of what came in was rejected "
                                               "or not imported"),
            ("Gone", page.count(gone), f"no longer in their source; {by_hand:,} more were withdrawn by hand"),
            ("Kept", page.count(kept), f"{data.header.size} pixels each"),
            ("Groups of near-duplicates", page.count(shared), f"{alike} in them"),
            ("Train / val / test", _shares(splits),
             " / ".join(page.count(splits[name]) for name in SPLITS[:3]) + " images"),
            ("Quarantine", page.count(splits["quarantine"]), "look like images of two splits: used in none"),
            *([("With a position", page.count(placed), "kept files that say where they were taken; collect.notes "
                                                       "strip takes that out")] if placed else []),
        ]),
    ]  # fmt: skip


def came_in(data: Evidence, limits: Limits) -> Section:
    """Sources and licences with their counts, refusals and bytes, and where the images went."""
    images = data.images
    rows = _sources(data, limits)
    header = ["Source", "Licence", "Matte", "Images", "Bytes", "Kept", "Rejected", "Gone", "Withdrawn",
              "Not imported", "Labelled", "Captioned"]  # fmt: skip
    body: list[Child] = [
        page.note("One row for each source, licence and matte (the colour that transparency is laid on). An image "
                  "that came twice under two names counts twice. Files that were not imported are listed below."),
        page.table(header, rows[: limits.rows], caption="Sources", numbers=range(3, 12), total=len(rows)),
    ]  # fmt: skip
    if images["licence"].nunique() > 1:
        body.append(_licences(data, limits))
    splits = split_counts(data)
    steps = [("came in", [len(images)]), ("kept by clean", [len(data.kept)])]
    steps += [(name, [splits[name]]) for name in SPLITS]
    reasons = images.loc[images["verdict"] == "rejected", "reason"].value_counts()
    figures = [page.figure(charts.bars("From source to split", steps, unit="images"),
                           "Each bar counts images that are left after that step, then where they went.")]  # fmt: skip
    if len(reasons):
        dropped = [(manifest.words(name), [number]) for name, number in ranked(reasons)]
        figures.append(page.figure(charts.bars("Rejected, by reason", dropped, unit="images"),
                                   "Why images were left out. Each is shown below, with its evidence."))  # fmt: skip
    return Section("sources", "Sources and licences", [*body, page.side_by_side(*figures)])


def _sources(data: Evidence, limits: Limits) -> list[list[Child]]:
    images = data.images
    flags = {name: images["verdict"] == name for name in ("kept", "rejected")}
    flags |= {name: (images["verdict"] == "withdrawn") & (images["reason"] == name) for name in _LEFT}
    counted = images.assign(**flags, labelled=images["label"].notna(), texts=images["text"].notna())
    sums = counted.groupby(["source", "licence", "matte"], dropna=False, sort=True).agg(
        images=("arrival", "size"), bytes=("size", "sum"), kept=("kept", "sum"), rejected=("rejected", "sum"),
        gone=("gone", "sum"), withdrawn=("withdrawn", "sum"), labelled=("labelled", "sum"), texts=("texts", "sum"),
    )  # fmt: skip
    refused_by = data.refused["source"].value_counts().to_dict()
    rows = []
    for (source, licence, matte), row in zip(sums.index, sums.itertuples(), strict=True):
        rows.append([
            cut(source, limits.characters), cut(licence, limits.characters) or "(none given)", _swatch(matte),
            page.count(row.images), page.size(row.bytes), page.count(row.kept), page.count(row.rejected),
            page.count(row.gone), page.count(row.withdrawn), page.count(refused_by.pop(source, 0)),
            page.share(row.labelled, row.images), page.share(row.texts, row.images),
        ])  # fmt: skip
    # A source without any image is listed too, with the files that were not imported.
    rows += [[cut(source, limits.characters), "–", "–", *["0"] * 6, page.count(number), "–", "–"]
             for source, number in sorted(refused_by.items())]  # fmt: skip
    return rows


def _swatch(matte: object) -> Child:
    """The colour and its name; the name alone for what is no colour."""
    text = cut(matte, 20, tell=False)
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return text
    return [el("span", class_="swatch", style=f"background:{text}"), el("code", text)]


def _licences(data: Evidence, limits: Limits) -> Safe:
    kept = data.kept.assign(split=data.kept["split"].fillna("quarantine"))
    counts = kept.groupby(["licence", "split"]).size().unstack(fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
    order = sorted(counts.index, key=lambda name: (-int(counts.loc[name].sum()), name))
    rows = [
        [cut(name, limits.characters) or "(none given)", page.count(counts.loc[name].sum()),
         page.share(counts.loc[name].sum(), len(kept)), *(page.count(counts.loc[name, split]) for split in SPLITS)]
        for name in order
    ]  # fmt: skip
    return page.table(["Licence", "Kept images", "Share", *SPLITS], rows[: limits.rows],
                      caption="Licences of the images that are kept", numbers=range(1, 7), total=len(rows))  # fmt: skip


def changes() -> Section:
    """Where to see what changed: one state of the data cannot say what the one before it was."""
    return Section("changes", "What changed since the last version", [
        el("p", "Each pipeline run that finds other data than the one before it writes ",
           el("a", "what changed", href="changes.html"), " beside this page: which images were added, removed or "
           "judged anew, whether any moved to another split (none may), and of which commit and date both states are. ",
           el("code", "stillroom data diff"), " writes it for any two states. This page shows one state and no date, "
           "so that the same data make the same page."),
        el("pre", "stillroom data diff last now"),
    ])  # fmt: skip


def refused(data: Evidence, limits: Limits) -> Section:
    """The files and rows that collect did not import."""
    rows = data.refused
    if not len(rows):
        return Section("refused", "Files that were not imported", [page.empty("None: every file became an image.")])
    reasons = [[manifest.words(name), page.count(number)] for name, number in ranked(rows["reason"].value_counts())]
    shown = [
        [
            cut(row.source_key, limits.characters),
            manifest.words(row.reason),
            cut(row.detail, limits.characters),
            cut(row.source, limits.characters),
        ]
        for row in rows.head(limits.rows).itertuples()
    ]
    body = [
        page.note("Files and rows of a source that never became images: unsafe names, links, devices, files that "
             "cannot be read, metadata without a file. Nothing of them was kept."),
        page.table(["Reason", "Files"], reasons, caption="Not imported, by reason", numbers=[1]),
        page.fold("Every file that was not imported",
             page.table(["File", "Reason", "Detail", "Source"], shown, caption="Not imported", total=len(rows)),
             count=len(rows), open_=len(rows) <= 20),
    ]  # fmt: skip
    return Section("refused", "Files that were not imported", body)


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


def ranked(counts: pd.Series) -> list[tuple[str, int]]:
    """Names and counts, the most frequent first."""
    return sorted(((str(name), int(number)) for name, number in counts.items()), key=lambda pair: (-pair[1], pair[0]))
