"""What is made of the pack's pictures and their captions for training; nothing where nothing is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.embed import sentences
from components.encode.params import EncodeParams, TextParams
from components.samples import captions, latents, pack, texts

log = logging.getLogger(__name__)


def encode(
    params: EncodeParams, *, verdicts: Path, pixels: Path, splits: Path, text: Path, latents: Path, facts: Path
) -> dict[str, float]:  # fmt: skip
    """Make a vector of each caption of the kept images, and latents of their pictures, where these are asked for."""
    told = _text(params, verdicts=verdicts, pixels=pixels, text=text, facts=facts)
    return told | _latents(params, pixels=pixels, splits=splits, folder=latents, facts=facts)


def _latents(params: EncodeParams, *, pixels: Path, splits: Path, folder: Path, facts: Path) -> dict[str, float]:
    """The latents of every picture; what there is to say of them."""
    with files.replacing_folder(folder) as beside:
        if params.latents is None:
            latents.write(beside, None, pixels)
            return {}
        from components.encode import latents as made  # here, as torch and diffusers

        return made.write(params.latents, beside, pixels=pixels, splits=splits, facts=facts)


def _text(params: EncodeParams, *, verdicts: Path, pixels: Path, text: Path, facts: Path) -> dict[str, float]:
    """Clean the captions of the kept images and make a vector of each, once."""
    if params.text is None:
        with files.replacing_folder(text) as folder:
            texts.write(folder, None, pixels)
        return {}
    from components.encode import vectors  # here, as numpy and torch: what is not asked for costs nothing

    name, place = vectors.source(params.text)
    found, metrics = _captions(params.text, verdicts, pixels)
    made = vectors.made(name, place, found.captions, facts, params.text.tokens or 0)
    with files.replacing_folder(text) as folder:
        texts.write(folder, replace(found, encoder=made.encoder), pixels)
        made.write(folder)
        if name != sentences.MINILM:
            sentences.copy(place, folder / texts.ENCODER)
    return {**metrics, "new": float(made.pooled.new), "truncated": float(made.truncated)}


def _captions(params: TextParams, verdicts: Path, pixels: Path) -> tuple[texts.Texts, dict[str, float]]:
    """The captions of each row of the pack, and what there is to say of them."""
    from components.samples import manifest  # here: nothing of pyarrow where no text is asked for

    rows = manifest.read(
        verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean",
        columns=["sha256", "text", "label", "verdict", "reason", "twin"],
    ).to_pylist()  # fmt: skip
    kept = [row for row in rows if row["verdict"] == "kept"]
    if [row["sha256"] for row in kept] != pack.read_keys(pixels):
        raise UserError(f"{pixels}: does not hold what {verdicts} keeps: run stage 'resize' again")
    own = [_own(row, params) for row in kept]
    place = {row["sha256"]: at for at, row in enumerate(kept)}
    for row in rows:  # the same picture once more, with what somebody else said of it
        if row["reason"] == "duplicate" and row["twin"] in place:
            mine = own[place[row["twin"]]]
            mine += [each for each in _own(row, params) if each not in mine]
    given = [found or _of_label(row, params) for found, row in zip(own, kept, strict=True)]
    if not any(given):
        raise UserError(
            f"encode.text: none of {len(kept):,} images has a caption: name the column that has them "
            "(collect.sources, text_column), give a template for labels (encode.text.template), or set encode.text to "
            "null"
        )
    return texts.collected(given), _told(own, given, kept, params)


def _own(row: Mapping[str, Any], params: TextParams) -> list[str]:
    return captions.several(row["text"], params.separator, params.characters)


def _of_label(row: Mapping[str, Any], params: TextParams) -> list[str]:
    if params.template is None or row["label"] is None:
        return []
    return [found] if (found := captions.of_label(params.template, row["label"], params.characters)) else []


def _told(
    own: Sequence[Sequence[str]], given: Sequence[Sequence[str]], kept: Sequence[Mapping[str, Any]], params: TextParams
) -> dict[str, float]:  # fmt: skip
    """Log what there is and what is missing; the metrics of it."""
    distinct = len({each for row in given for each in row})
    cut = sum(len(row["text"]) > params.characters for row in kept if row["text"] and params.separator is None)
    numbers = {
        "rows": len(given), "captions": sum(map(len, given)), "distinct": distinct,
        "of_labels": sum(not mine and bool(found) for mine, found in zip(own, given, strict=True)),
        "without": sum(not found for found in given), "several": sum(len(found) > 1 for found in given), "long": cut,
    }  # fmt: skip
    log.info("%d captions, %d distinct, of %d pictures; %d are made of labels, %d pictures have none",
             numbers["captions"], distinct, numbers["rows"], numbers["of_labels"], numbers["without"])  # fmt: skip
    if cut:
        log.warning("%d texts are longer than encode.text.characters, %d, and were cut", cut, params.characters)
    return {name: float(number) for name, number in numbers.items()}
