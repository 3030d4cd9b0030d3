"""Stage ``report``: the model report."""

from __future__ import annotations

import logging
from pathlib import Path

from components.base import files
from components.html.page import document
from components.html.sprites import Sprites
from components.report import outcome
from components.report.nearest import neighbours
from components.report.numbers import by_noise_level, card, curves, scores, settings, summary
from components.report.params import ReportParams
from components.report.pictures import augmented, film, samples
from components.report.sweep import sweep
from components.report.words import words

log = logging.getLogger(__name__)


def report(params: ReportParams, *, pixels: Path, model: Path, evaluation: Path, page: Path) -> dict[str, float]:
    """Show scores with their intervals, curves, samples, film strips and nearest training images, on one page."""
    data = outcome.read(pixels=pixels, model=model, evaluation=evaluation)
    height, width = data.header.frame
    sheets = [Sprites(name, width, height, scale=params.magnify) for name in ("sample", "film", "near", "aug")]
    drawn, frames, near, changed = sheets
    sections = [
        scores(data),
        by_noise_level(data),
        samples(data, drawn, most=params.samples_per_class, characters=params.characters),
        film(data, frames, most=params.films, characters=params.characters),
        neighbours(data, near, most=params.neighbours, characters=params.characters),
        augmented(data, changed),
        words(data),
        sweep(data),
        curves(data),
        settings(data, characters=params.characters),
        card(data),
    ]
    text = document(
        "Model report", summary(data), [each for each in sections if each], css="".join(sheet.css() for sheet in sheets)
    )
    files.write_text(page, text)
    written = len(text.encode("utf-8"))
    log.info("%s: %d samples, %d bytes", page.name, len(drawn), written)
    return {"bytes": written, "pictures": sum(len(sheet) for sheet in sheets)}
