"""What the model report shows, read from the candidate and its evaluation: plain data, no weights."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.base import files
from components.base.errors import UserError, brief
from components.samples import drawn, pack, tallies
from components.samples import spec as specs

UNLABELLED = "(no label)"


@dataclass(frozen=True)
class Outcome:
    """One candidate and its scores.

    ``rows`` and ``held_out`` are the tables of stage ``evaluate`` (:mod:`components.samples.drawn`), without features.
    ``gallery`` are the rows of pictures by label, ``extra`` (E, H, W, C) their samples that no table holds.
    ``samples`` is (N, H, W, C) uint8 with ``sample_info``, in the order of ``rows``; of several shapes each lies in the
    middle of such a frame, as ``sizes`` in the infos says;
    ``film`` (pictures, frames, H, W, C) with ``film_info``;
    ``augmented`` (images, draws, H, W, C) with ``augmented_info``, both empty where training changed no image;
    ``settings`` the model's stillroom.json, ``network`` the configuration of its U-Net, ``history`` its curves.
    """

    scores: dict[str, Any]
    rows: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    settings: dict[str, Any]
    network: dict[str, Any]
    history: list[dict[str, float]]
    card: str
    samples: np.ndarray
    sample_info: dict[str, Any]
    gallery: list[dict[str, Any]]
    extra: np.ndarray
    extra_info: dict[str, Any]
    film: np.ndarray
    film_info: dict[str, Any]
    augmented: np.ndarray
    augmented_info: dict[str, Any]
    header: pack.Header
    pixels: Path

    def sample(self, number: int) -> Image.Image:
        """Sample ``number`` as a picture."""
        return _show(_unframed(self.samples[number], self.sample_info, number))

    def added(self, number: int) -> Image.Image:
        """Extra sample ``number`` as a picture."""
        return _show(_unframed(self.extra[number], self.extra_info, number))

    def frame(self, strip: int, number: int) -> Image.Image:
        """Frame ``number`` of film strip ``strip``."""
        return _show(self.film[strip, number])

    def draw(self, image: int, number: int) -> Image.Image:
        """Draw ``number`` of augmented image ``image``."""
        return _show(self.augmented[image, number])

    def training(self, row: int) -> Image.Image:
        """Row ``row`` of the pack."""
        return pack.picture(pack.read_row(self.pixels, self.header, row), self.header.picture_shape(row))

    def class_name(self, number: int) -> str:
        """The label of class ``number``; "" for none."""
        names = self.sample_info["classes"]
        return names[number] if 0 <= number < len(names) else ""

    @cached_property
    def copies(self) -> tallies.Tally:
        """How many samples, and how many held-out images, are as near to a training image as a copy."""
        return tallies.tally(self.rows, self.held_out, tallies.copy)

    @cached_property
    def recognised(self) -> dict[str, tallies.Tally]:
        """Of each label ("" for none): how many samples, and held-out images, the classifier gives that label."""
        found = tallies.by_class(self.rows, self.held_out, tallies.recognised, alone=True)
        return defaultdict(lambda: tallies.Tally(0, 0, 0, 0), found)

    @cached_property
    def confidence(self) -> str:
        """The intervals' confidence in words: ``95 %``."""
        return f"{100 * self.scores['confidence']:g} %"


def read(*, pixels: Path, model: Path, evaluation: Path) -> Outcome:
    """Everything the report needs; UserError naming the file that is missing or broken."""
    sample_info, film_info = _json(evaluation / "samples.json"), _json(evaluation / "film.json")
    header = pack.read_header(pixels)
    shape = _shape(evaluation / "samples.json", sample_info)
    sizes = {tuple(size[:2]) for size in _sizes(evaluation / "samples.json", sample_info)} or {shape[:2]}
    if unknown := sizes - {size[1:] for size in header.shapes}:
        height, width = min(unknown)
        raise UserError(
            f"{evaluation}: samples of {width} × {height} pixels, training images of {header.size}: "
            "run stage 'evaluate' again"
        )
    gallery, rows = _json(evaluation / "gallery.json"), drawn.samples(evaluation)
    if len(rows) != sample_info["rows"]:
        raise UserError(f"{evaluation}: {sample_info['rows']} pictures, {len(rows)} rows: run stage 'evaluate' again")
    augmented = _json(evaluation / "augmented.json") if (evaluation / "augmented.json").exists() else {}
    of_augmented = _shape(evaluation / "augmented.json", augmented) if augmented else ()
    draws = (augmented["rows"], augmented["draws"], *of_augmented) if augmented else (0,)
    of_film, of_extra = _shape(evaluation / "film.json", film_info), _shape(evaluation / "gallery.json", gallery)
    _sizes(evaluation / "gallery.json", gallery)
    card = evaluation / "knee/README.md"  # that of the registered version, where a sweep chose its steps
    return Outcome(
        scores=_json(evaluation / "scores.json"),
        rows=rows,
        held_out=drawn.held_out(evaluation),
        settings=_json(model / "stillroom.json"),
        network=next((_json(path) for path in sorted(model.glob("*/config.json"))), {}),
        history=_lines(model / "history.jsonl"),
        card=(card if card.is_file() else model / "README.md").read_text("utf-8"),
        samples=_array(evaluation / "samples.u8", (sample_info["rows"], *shape)),
        sample_info=sample_info,
        gallery=gallery["labels"],
        extra=_array(evaluation / "gallery.u8", (gallery["rows"], *of_extra)),
        extra_info=gallery,
        film=_array(evaluation / "film.u8", (film_info["rows"], film_info["frames"], *of_film)),
        film_info=film_info,
        augmented=_array(evaluation / "augmented.u8", draws) if augmented else np.empty(draws, np.uint8),
        augmented_info=augmented,
        header=header,
        pixels=pixels,
    )


def _json(path: Path) -> dict[str, Any]:
    return files.read_json_object(path, "run the stage that writes it again")


def _shape(path: Path, info: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width and channels of its pictures."""
    try:
        return specs.sized(info)
    except ValueError as error:
        raise UserError(f"{path}: {error}: run stage 'evaluate' again") from None


def _sizes(path: Path, info: dict[str, Any]) -> list[list[int]]:
    """Height, width and number of the pictures of each shape, as they follow each other; nothing of one shape."""
    found = info.get("sizes", [])
    whole = isinstance(found, list) and all(isinstance(size, list) and len(size) == 3 for size in found)
    if not whole or not all(type(number) is int and number >= 0 for size in found for number in size):
        raise UserError(f"{path}: sizes must be lists of three whole numbers: run stage 'evaluate' again")
    if found and sum(size[2] for size in found) != info["rows"]:
        raise UserError(f"{path}: sizes are not those of its {info['rows']} pictures: run stage 'evaluate' again")
    return found


def _unframed(picture: np.ndarray, info: dict[str, Any], number: int) -> np.ndarray:
    """Picture ``number`` of those that ``info`` describes, without its frame."""
    for height, width, count in info.get("sizes", []):
        if number < count:
            top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
            return picture[top : top + height, left : left + width]
        number -= count
    return picture


def _lines(path: Path) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({brief(error)}): run stage 'train' again") from None


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    values = np.fromfile(path, np.uint8)
    if values.size != np.prod(shape):
        raise UserError(f"{path}: {values.size} bytes, wanted {np.prod(shape)}: run stage 'evaluate' again")
    return values.reshape(shape)


def _show(array: np.ndarray) -> Image.Image:
    return pack.picture(array.tobytes(), array.shape)
