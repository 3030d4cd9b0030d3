"""The parts of the model report that are pictures: samples by label, film strips, augmented images."""

from __future__ import annotations

from typing import Any

from components.html.page import Child, Safe, Section, cut, el, empty, figures, hidden, note, share
from components.html.sprites import Sprites
from components.report.outcome import UNLABELLED, Outcome
from components.samples.tallies import Tally


def samples(data: Outcome, sheet: Sprites, *, most: int, characters: int) -> Section:
    """A row for each label, all of one length: samples, and training images of the same label beside them."""
    if not data.gallery:
        return Section("samples", "Samples", [empty("No samples were drawn.")])
    entries: list[Child] = []
    for row in data.gallery:
        name = data.class_name(row["class_id"]) or UNLABELLED
        short = cut(name, 60, tell=False)
        cells, real = _samples(data, sheet, row, short)[:most], []
        for at in row["real"][:most]:
            sheet.add(f"row/{at}", data.training(at))
            real.append(sheet.cell(f"row/{at}", f"training image {at}, {short}"))
        agreed = _recognised(data.recognised[name if row["class_id"] >= 0 else ""])
        entries += [el("dt", cut(name, characters), agreed), el("dd", cells), el("dd", real, class_="real")]
    sampler = data.scores["sampler"]
    shapes = " in each shape" if len(data.header.shapes) > 1 else ""
    return Section("samples", "Samples", [
        note("On the left samples, on the right training images of the same label. Drawn from noise in "
             f"{sampler['steps']} steps with guidance {figures(sampler['guidance'])}{_pushed(sampler)}, seed "
             f"{sampler['seed']}: the first ones of each label{shapes}, "
             "as many of a rare label as of a common one, none picked by hand. The same seed gives the same noise "
             "to every model, so two reports can be laid side by side. "
             f"{data.header.size} pixels, enlarged {sheet.scale} times."),
        el("dl", entries, class_="samples beside"),
    ])  # fmt: skip


def _pushed(sampler: dict[str, Any]) -> str:
    push = sampler.get("autoguidance", 1)
    return "" if push == 1 else f" and autoguidance {figures(push)}"


def _samples(data: Outcome, sheet: Sprites, row: dict[str, Any], name: str) -> list[Safe]:
    """The cells of a label's samples: those that the table has, then those that were drawn to fill the row."""
    pictures = [(f"sample/{at}", data.sample(at)) for at in row["samples"]]
    pictures += [(f"extra/{at}", data.added(at)) for at in row["extra"]]
    for key, picture in pictures:
        sheet.add(key, picture)
    return [sheet.cell(key, f"{key.replace('/', ' ')}, {name}") for key, _ in pictures]


def _recognised(found: Tally) -> Child:
    """How many samples of a label the classifier recognises, against held-out images."""
    if not found.samples:
        return None
    real = f", held-out images {share(found.real_share, 1)}" if found.real else ""
    return el("small", f"recognised {found.hits} of {found.samples}{real}")


def film(data: Outcome, sheet: Sprites, *, most: int, characters: int) -> Section:
    """How a few samples come out of noise: the clean image that the model expects at each noise level."""
    title = "From noise to image"
    rows, frames = data.film_info["rows"], data.film_info["frames"]
    if not rows or not most:
        return Section("film", title, [empty("No film strip was made.")])
    sigmas = data.film_info["sigmas"]
    ids = data.film_info.get("class_ids") or []
    head = [el("td")] + [
        el("th", figures(sigmas[at], 2) if at < len(sigmas) else "", scope="col") for at in range(frames)
    ]
    body = []
    for strip in range(min(rows, most)):
        name = (data.class_name(ids[strip]) if strip < len(ids) else "") or f"strip {strip + 1}"
        cells = []
        for at in range(frames):
            sheet.add(f"{strip}/{at}", data.frame(strip, at))
            cells.append(
                el("td", sheet.cell(f"{strip}/{at}", f"{cut(name, 60, tell=False)}, frame {at + 1} of {frames}"))
            )
        body.append(el("tr", el("th", cut(name, min(characters, 24), tell=False), scope="row"), cells))
    grid = el("table", el("thead", el("tr", head)), el("tbody", body))
    return Section("film", title, [
        note("Each row is one sample while it is drawn, from left to right; above stands the noise level sigma "
             "(standard deviation of the noise, in units in which pixels run from -1 to 1). The coarse layout is "
             "settled at high sigma, the detail at low sigma. If the picture still changes at low noise, the model is "
             "unsure."),
        el("div", grid, class_="film", role="region", aria_label="Film strips", tabindex="0"),
        hidden(min(rows, most), rows, "strips"),
    ])  # fmt: skip


def augmented(data: Outcome, sheet: Sprites) -> Section | None:
    """What training did to some of its images before it added noise; None where it showed them as they are."""
    info = data.augmented_info
    if not info:
        return None
    body = []
    for at, row in enumerate(info["of"]):
        sheet.add(f"row/{row}", data.training(row))
        cells = [el("td", sheet.cell(f"row/{row}", f"training image {row}"), el("small", "the image"))]
        for number, words in enumerate(info["done"][at]):
            sheet.add(f"{at}/{number}", data.draw(at, number))
            cells.append(el("td", sheet.cell(f"{at}/{number}", words), el("small", words)))
        body.append(el("tr", cells))
    return Section("augmented", "Augmented images", [
        note("On the left a training image, beside it draws of what training shows in its place; below each stands "
             "what was done. No draw should look like something that a sample must not be, unless the network is "
             "told of it (train.augment.label in params.yaml)."),
        el("div", el("table", el("tbody", body)), class_="film drawn", role="region", aria_label="Augmented images",
           tabindex="0"),
    ])  # fmt: skip
