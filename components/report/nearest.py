"""The part of the model report that tells whether samples copy training images: the pairs, closest first."""

from __future__ import annotations

from typing import Any

from components.html.page import Safe, Section, count, cut, el, empty, figures, fold, hidden, note, share, table
from components.html.sprites import Sprites
from components.report.outcome import UNLABELLED, Outcome
from components.samples import tallies


def memorised(data: Outcome) -> str:
    """The verdict on memorisation in one sentence."""
    if data.copies.share <= data.copies.real_share:
        return "No sign of memorisation: samples are no closer to training images than unseen real images are."
    return (
        "Some samples are closer to a training image than chance gives: look at the pairs below. What repeats in "
        "the data (flags, tiles, plain shapes) comes back even from a sound model."
    )


def by_class(data: Outcome, *, characters: int) -> Safe:
    """Copies among the samples and among the held-out images of each class, most first, as a table."""
    found = sorted(
        tallies.by_class(data.rows, data.held_out, tallies.copy).items(), key=lambda each: (-each[1].share, each[0])
    )
    rows = [
        [cut(label, characters) or UNLABELLED, count(each.samples), count(each.hits), share(each.share, 1),
         count(each.real), count(each.real_hits), share(each.real_share, 1), figures(each.chance_of_more, 2)]
        for label, each in found
    ]  # fmt: skip
    return table(["Label", "Samples", "Copies", "Share", "Held-out images", "Copies", "Share", "Chance"], rows,
                 caption="Copies of training images by label", numbers=range(1, 8))  # fmt: skip


def neighbours(data: Outcome, sheet: Sprites, *, most: int, characters: int) -> Section:
    """Samples beside their nearest training image, closest first, and the verdict on memorisation."""
    title, found = "Nearest training images", data.copies
    verdict = [
        el("p", memorised(data), class_="warn" if found.share > found.real_share else None),
        note(f"{share(found.share, 1)} of the samples are as near to a training image as a copy. Of "
             f"{found.real:,} held-out images, which nobody trained on, {share(found.real_share, 1)} are. Sample on "
             "the left, nearest training image on the right; closest pairs first. rmse is the root mean squared "
             "difference of pixels, 0 (equal) to 1; similarity is that of the features, 1 is equal. A copy comes much "
             "nearer than held-out images of its label do, or nearer than evaluate.memorised_rmse."),
        fold("By label", by_class(data, characters=characters),
             note("Chance: how likely at least so many copies are if samples copy as rarely as held-out images do. "
                  "A label without held-out images is compared with all of them.")),
    ]  # fmt: skip
    near = sorted(data.rows, key=lambda row: (row["train_rmse"], row["sample"]))
    if not near or not most:
        return Section("nearest", title, [*verdict, empty("No pairs to show.")])
    cards = [_pair(data, sheet, row, characters) for row in near[:most]]
    return Section("nearest", title, [
        *verdict,
        el("ul", cards, class_="strip wide"),
        hidden(len(cards), len(near), "pairs"),
    ])  # fmt: skip


def _pair(data: Outcome, sheet: Sprites, row: dict[str, Any], characters: int) -> Safe:
    number, key = row["sample"], row["train_sha256"]
    sample, training = f"sample/{number}", f"row/{row['train_row']}"
    sheet.add(sample, data.sample(number))
    sheet.add(training, data.training(row["train_row"]))
    words = [
        el("b", cut(row["label"] or f"sample {number}", min(characters, 40), tell=False)),
        el("span", f"rmse {figures(row['train_rmse'])}"),
        el("span", f"similarity {figures(row['train_similarity'])}"),
        el("span", f"nearest held-out image: rmse {figures(row['held_out_rmse'])}"),
        el("span", "image ", el("code", key[:10]), title=key),
        el("span", f"a copy: at most {figures(row['copy_limit'])}" if row["copy"] else "apart",
           class_=f"tag {'rejected' if row['copy'] else 'kept'}"),
    ]  # fmt: skip
    both = [sheet.cell(sample, f"sample {number}"), sheet.cell(training, f"training image {key[:10]}")]
    return el("li", el("div", both, class_="both"), el("div", words, class_="words"), class_="pair")
