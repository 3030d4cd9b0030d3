"""Stage ``evaluate``: scores of the candidate on held-out images, with intervals, and what the report shows of it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base import files
from components.base.errors import UserError
from components.dataset import augment, tensors
from components.dataset.params import AugmentParams
from components.diffusion import noise
from components.embed import judges
from components.evaluate import (
    classifier,
    gallery,
    knee,
    measure,
    metrics,
    neighbours,
    reference,
    retrieval,
    shapes,
    sweep,
    tabulate,
    telling,
)
from components.evaluate.params import EvaluateParams
from components.evaluate.shapes import Asked, Compared
from components.model import grid, sampling
from components.samples import drawn, pack
from components.samples import spec as specs
from components.samples.latents import Latents

FILM_PICTURES, FILM_FRAMES, SHEET_COLUMNS, AUGMENTED = 8, 8, 12, 6
"""Samples of the film strip, its frames, samples in a row of the sheet, and training images shown augmented."""


def evaluate(
    params: EvaluateParams, *, pixels: Path, splits: Path, model: Path, evaluation: Path, text: Path | None = None,
    latents: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Score the candidate on the held-out images; draw samples, a film strip and their nearest neighbours.

    They are drawn in the model's own way or, where ways are swept, in the knee, with which it is then registered
    (:mod:`components.evaluate.knee`).  Writes the tables of samples and of held-out images
    (:mod:`components.samples.drawn`), scores.json, errors.f32 and the pictures of the report into ``evaluation``;
    returns the scores with their intervals.  UserError when a split is too small or the model is of samples of
    another shape.
    """
    images, rows = tensors.Pixels(pixels), {name: list(pack.read_split(splits, name)) for name in pack.SPLITS}
    for name in ("train", "test"):
        if len(rows[name]) < 2:
            raise UserError(f"{splits}: {len(rows[name])} images in split {name}, at least 2 are needed")
    wanted = [judges.Judge(**judge.model_dump()) for judge in params.judges]
    for judge in wanted:
        judges.check(judge)
    measure.import_ahead(model)
    denoiser = sampling.load(model)
    measure.check(denoiser, images.header, model)
    space = measure.space(denoiser, model, pixels, latents)
    sweep.ways(params, denoiser)  # before hours of work: whether they can be
    both = shapes.compared(images, rows["train"], sorted(rows["val"] + rows["test"]), splits)
    train_ids, asked = images.class_ids[rows["train"]].tolist(), shapes.asked(images, both.train, params.samples)
    extra = shapes.of_labels(gallery.wanted(train_ids, asked.class_ids), asked)
    told = telling.Told(text, pixels, tuple(both.held_out)) if denoiser.text and text else None
    said = told and telling.Telling(told, denoiser)
    found, tables = _measured(params, wanted, model, pixels, both, rows["test"], asked, extra, told, space)
    film_ids, chosen = _film_classes(train_ids), sweep.knee(found.sweep)
    way = chosen or sweep.own(denoiser)
    film, sigmas = sampling.film(
        denoiser, film_ids if denoiser.classes else [-1] * len(film_ids), seed=params.seed, frames=FILM_FRAMES,
        shape=images.header.spec.shape, text=said.of_classes(film_ids, 0) if said else None, **asdict(way),
    )  # fmt: skip
    table: dict[str, Any] = {
        "format": 2, "confidence": params.confidence,
        "counts": {"train": len(rows["train"]), "test": len(rows["test"]), "held_out": len(found.held_out),
                   "samples": len(asked.class_ids)},
        "scores": metrics.of_sets(params, found),
        "sampler": {
            "name": way.sampler, "steps": way.steps, "guidance": way.guidance, "autoguidance": way.autoguidance,
            "seed": params.seed,
        }, **shapes.sizes(found.drawn),
    }  # fmt: skip
    levels = metrics.of_noise_levels(params, found.errors, denoiser)
    table["scores"] |= {"x0_error": levels.pop("x0_error"), **metrics.of_captions(params, found)}
    words = {"words": retrieval.words(found.retrieved)} if found.retrieved else {}
    table |= {**levels, **words, "sweep": found.sweep, "knee": asdict(chosen) if chosen else None}
    with files.replacing_folder(evaluation) as folder:
        drawn.write(folder, *tables)
        rows_of = drawn.samples(folder), drawn.held_out(folder)
        table["scores"] |= metrics.of_labels(params, *rows_of)
        _write(folder, table, found, asked, images.header.classes, film, {"sigmas": [*sigmas], "class_ids": film_ids})
        gallery.write(folder, extra.class_ids, found.extra, rows=rows["train"], train_ids=train_ids,
                      class_ids=asked.class_ids, order=asked.mixed)  # fmt: skip
        _augmented(folder, model, images, rows["train"])
        knee.write(folder, model, denoiser, chosen)
    return metrics.numbers(table["scores"]) | metrics.memorised(*rows_of) | sweep.numbers(found.sweep)


def _measured(
    params: EvaluateParams, wanted: Sequence[judges.Judge], model: Path, pixels: Path, rows: Compared,
    test: Sequence[int], asked: Asked, extra: Asked, told: telling.Told | None, space: Latents | None,
) -> tuple[metrics.Measured, tuple[tabulate.Columns, tabulate.Columns]]:  # fmt: skip
    """What is computed with networks, and the tables of samples and of held-out images.

    ``rows`` are those that samples are compared with, ``test`` those of the x0 error.
    """
    images, keys = tensors.Pixels(pixels), pack.read_keys(pixels)
    real, count = images.runs(rows.held_out), len(asked.class_ids)
    order = torch.randperm(len(rows.train), generator=noise.generator(params.seed, "floor"))
    floor = order[:count].tolist()
    floor = floor if images.buckets is None else sorted(floor)
    with measure.workers(model, told=told) as run:
        held_out = measure.described(run, real, "held-out features")
        denoiser = sampling.load(model)
        points = sweep.swept(params, run, denoiser, asked, held_out, pixels=pixels, rows=rows.train)
        way = asdict(sweep.knee(points) or sweep.own(denoiser))
        made = measure.samples(run, asked.class_ids, seed=params.seed, shapes=asked.shapes, **way)
        fake = measure.described(run, made, "features of samples")
        trained = reference.seen(run, pixels, rows.train, [*made, *real], features=fake.shape[1],
                                 floor=floor, classes=len(images.header.classes))  # fmt: skip
        errors = measure.errors(run, pixels, test, seed=params.seed, space=space)
        filled = [made[0][:0]]
        others_seen = images.runs([rows.train[at] for at in floor])
        judged = [(judge, _features(run, judge, made, real, others_seen)) for judge in wanted]
        if extra.class_ids:
            filled = measure.samples(run, extra.class_ids, seed=params.seed, first=count, shapes=extra.shapes,
                                     what="evaluate: rare labels", **way)  # fmt: skip
        retrieved = _retrieved(params, run, told, images, test, count + len(extra.class_ids), way)
    among = neighbours.Among(made, fake.shape[1])
    for first, some in zip(itertools.accumulate(map(len, real), initial=0), real, strict=False):
        among.see(some, held_out[first : first + len(some)], first)
    both = tabulate.nearest("train", trained.nearest, rows.train, keys, torch.cat([fake, held_out]))
    classes = images.header.classes
    both |= tabulate.labelled([*asked.class_ids, *images.class_ids[rows.held_out].tolist()], classes)
    both |= tabulate.judged(params, both, count)
    guessed = classifier.predict(trained.moments.scorer(), torch.cat([fake, held_out]))
    both["predicted"] = [None if number is None else classes[number] for number in guessed]
    samples: tabulate.Columns = {
        "sample": range(count), "seed": [params.seed] * count,
        **{name: column[:count] for name, column in both.items()},
        **tabulate.nearest("held_out", among, rows.held_out, keys, fake), "features": list(fake.numpy()),
    }  # fmt: skip
    others: tabulate.Columns = {
        "row": rows.held_out, "sha256": [keys[row] for row in rows.held_out],
        **{name: column[count:] for name, column in both.items()},
    }  # fmt: skip
    found = metrics.Measured(
        drawn=made, errors=errors, fake=fake, held_out=held_out, floor=trained.floor, sweep=points, extra=filled,
        judged=judged, retrieved=retrieved,
        colours=(metrics.colours(made), metrics.colours(real), metrics.colours(others_seen)),
    )  # fmt: skip
    return found, (samples, others)


def _retrieved(
    params: EvaluateParams, run: measure.Run, told: telling.Told | None, images: tensors.Pixels, test: Sequence[int],
    first: int, way: dict[str, Any],
) -> retrieval.Retrieved | None:  # fmt: skip
    """The test images that are looked for by their captions; None where the model is told nothing."""
    if told is None:
        return None
    images.tell(told.text, told.pixels)
    rows = telling.chosen(images, test, params.samples)
    if len(rows) < 2 or images.captions is None:
        return None
    shapes = [images.header.shape(row) for row in rows]
    drawn = measure.of_captions(run, rows, seed=params.seed, first=first, shapes=shapes, **way)
    ours, real = (measure.described(run, some, what) for some, what in (
        (drawn, "features of captions"), (images.runs(rows), "features of test images")))  # fmt: skip
    numbers = images.captions.numbers(rows).tolist()
    said = [images.captions.texts.captions[number] for number in numbers]
    return retrieval.Retrieved(said, retrieval.places(ours, real, numbers))


def _features(
    run: measure.Run, judge: judges.Judge, made: Sequence[Tensor], real: Sequence[Tensor], seen: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Features by ``judge`` of the samples, the held-out images and as many training images."""
    first, second, third = (measure.described(run, some, f"{what} by {judge.network}", judge) for some, what in (
        (made, "samples"), (real, "held-out images"), (seen, "training images")))  # fmt: skip
    return first, second, third


def x0_errors(
    model: Path, pixels: Path, rows: Sequence[int], *, seed: int, quiet: bool = False, text: Path | None = None,
    latents: Path | None = None,
) -> Tensor:  # fmt: skip
    """Squared x0 errors of a model folder on ``rows`` of a pack, (N, 8), with the same noise for every model.

    UserError when the model is of samples of another shape; ``quiet``: without a progress bar; ``text``: data/text,
    for a model that takes captions; ``latents``: data/latents, for one of latents, whose errors are in these.
    """
    measure.import_ahead(model)
    denoiser = sampling.load(model)
    measure.check(denoiser, pack.read_header(pixels), model)
    space = measure.space(denoiser, model, pixels, latents)
    told = telling.Told(text, pixels, tuple(rows)) if denoiser.text and text else None
    with measure.workers(model, quiet, told) as run:
        return measure.errors(run, pixels, rows, seed=seed, space=space)


def by_class(images_NHWC: Tensor, class_ids: Sequence[int], columns: int) -> Tensor:
    """A sheet with a row of ``columns`` images for each class, padded with white; a single class fills 8 rows."""
    kinds = sorted(set(class_ids))
    if len(kinds) == 1:
        return images_NHWC[: 8 * columns]
    sheet = torch.full((len(kinds) * columns, *images_NHWC.shape[1:]), 255, dtype=torch.uint8)
    ids = torch.tensor(class_ids)
    for at, kind in enumerate(kinds):
        some = images_NHWC[ids == kind][:columns]
        sheet[at * columns : at * columns + len(some)] = some
    return sheet


def _film_classes(class_ids: Sequence[int]) -> list[int]:
    """The most frequent classes, repeated as often as the film strip needs."""
    kinds = sorted(set(class_ids), key=lambda kind: (-class_ids.count(kind), kind))
    return [kinds[i % len(kinds)] for i in range(FILM_PICTURES)]


def _write(
    folder: Path, table: dict[str, Any], found: metrics.Measured, asked: Asked, classes: Sequence[str],
    film: Tensor, film_info: dict[str, Any],
) -> None:  # fmt: skip
    made, order = grid.framed(found.drawn), asked.mixed
    shape, of_film = specs.sizes(made.shape[1:]), specs.sizes(film.shape[2:])
    _json(folder / "scores.json", table)
    listed = {"classes": list(classes), **shapes.sizes(found.drawn)}
    _json(folder / "samples.json", {"rows": len(made), **shape, **listed})
    _json(folder / "film.json", {"rows": len(film), "frames": film.shape[1], **of_film, **film_info})
    (folder / "samples.u8").write_bytes(made.contiguous().numpy().tobytes())
    (folder / "film.u8").write_bytes(film.contiguous().numpy().tobytes())
    errors = found.errors.float().contiguous().numpy()
    (folder / "errors.f32").write_bytes((errors.byteswap() if sys.byteorder == "big" else errors).tobytes())
    sheet = by_class(made[order], [asked.class_ids[at] for at in order], SHEET_COLUMNS)
    grid.write(folder / "samples.png", sheet, columns=SHEET_COLUMNS, scale=2)
    grid.write(folder / "film.png", film.flatten(0, 1), columns=film.shape[1], scale=2)


def _augmented(folder: Path, model: Path, images: tensors.Pixels, rows: Sequence[int]) -> None:
    """Write augmented.u8 and augmented.json where training augmented its images: some of them, as it showed them."""
    noted = files.read_json_object(model / "stillroom.json", "train or pull the model again").get("augment")
    if not noted:
        return
    try:
        how, seed = AugmentParams.model_validate_json(json.dumps(noted["how"])), int(noted["seed"])
    except (KeyError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{model}/stillroom.json: augment cannot be read ({first}): train it again") from None
    alike = max(images.grouped(rows), key=len).tolist()  # of one shape: that of most
    chosen = [rows[alike[at * len(alike) // AUGMENTED]] for at in range(min(AUGMENTED, len(alike)))]
    sheet, words = augment.sheet(how, seed, images.gather(chosen), images.header.spec)
    shape = {"rows": len(chosen), "draws": sheet.shape[1], **specs.sizes(sheet.shape[2:])}
    _json(folder / "augmented.json", {**shape, "of": chosen, "done": words})
    (folder / "augmented.u8").write_bytes(sheet.contiguous().numpy().tobytes())


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
