"""The parts of the model report that are pictures: samples by label, film strips, augmented images."""

from __future__ import annotations

from components.html.page import Child, Section, cut, el, empty, figures, hidden, note, plural
from components.html.sprites import Sprites
from components.report.outcome import UNLABELLED, Outcome


def samples(data: Outcome, sheet: Sprites, *, most: int, characters: int) -> Section:
    """Samples by label, in the order in which they were drawn."""
    ids = [row["class_id"] for row in data.rows]
    if not ids:
        return Section("samples", "Samples", [empty("No samples were drawn.")])
    entries: list[Child] = []
    order = sorted(set(ids), key=lambda number: (number < 0, number))
    for number in order:
        name = data.class_name(number) or UNLABELLED
        of_label = [at for at, found in enumerate(ids) if found == number]
        cells = []
        for at in of_label[:most]:
            sheet.add(str(at), data.sample(at))
            cells.append(sheet.cell(str(at), f"sample {at}, {cut(name, 60, tell=False)}"))
        more = f"{len(cells)} of {len(of_label)}" if len(cells) < len(of_label) else plural(len(of_label), "sample")
        entries += [el("dt", cut(name, characters), el("small", more)), el("dd", cells)]
    sampler = data.scores["sampler"]
    return Section("samples", "Samples", [
        note(f"Drawn from noise in {sampler['steps']} steps with guidance {figures(sampler['guidance'])}, seed "
             f"{sampler['seed']}: the first ones of each label, none picked by hand. The same seed gives the same "
             f"noise to every model, so two reports can be laid side by side. {data.header.spec.side} × "
             f"{data.header.spec.side} pixels, enlarged {sheet.scale} times."),
        el("dl", entries, class_="samples"),
    ])  # fmt: skip


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
