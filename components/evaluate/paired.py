"""Two models compared on the same seeds, labels and held-out images: how far their kernel distances differ.

Shapes: N samples of each model, M held-out images, D features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base import files
from components.evaluate import measure, scores, telling
from components.model import sampling
from components.samples import drawn, pack

TIMES = 1000
"""Bootstrap samples of the comparison."""

_TIMED, _ROUNDS = 8, 3
"""Images drawn to measure the speed, and how often; the fastest counts."""


def kid_change(
    candidate: Path, champion: Path, pixels: Path, *, confidence: float, text: Path | None = None
) -> dict[str, float]:  # fmt: skip
    """The candidate's kernel distance less the champion's, with its interval: below 0 the candidate is better.

    ``candidate`` and ``champion`` are folders of registered versions.  The champion's samples are those in its own
    table where they were drawn with the seeds and for the labels of the candidate's, else they are drawn now.  Sample
    i of both began as the same noise for the same label, so both are in the same bootstrap samples.  ``text``:
    data/text, for a champion that takes captions.
    """
    ours = drawn.samples(candidate, features=True)
    sizes = _sizes(candidate)
    theirs = _drawn_alike(champion, ours) if _sizes(champion) == sizes else None
    held_out = [row["row"] for row in drawn.held_out(candidate)]
    told = telling.Told(text, pixels, tuple(held_out)) if text else None
    with measure.workers(champion, quiet=True, told=told) as run:
        real = measure.described_rows(run, pixels, held_out, "held-out features")
        if theirs is None:
            header = pack.read_header(pixels)
            channels, *usual = header.spec.shape
            shapes = [(channels, *size) for *size, count in sizes or [[*usual, len(ours)]] for _ in range(count)]
            theirs = _draw(run, sampling.load(champion), ours, shapes, header.classes)
    return change(torch.tensor([row["features"] for row in ours]), theirs, real, confidence=confidence)


def change(ours_ND: Tensor, theirs_ND: Tensor, real_MD: Tensor, *, confidence: float) -> dict[str, float]:
    """``value``, ``low``, ``high`` of the difference of two kernel distances to the same images: paired bootstrap."""
    count, against = len(ours_ND), len(real_MD)
    source = torch.Generator().manual_seed(0)
    weights = [scores.replicates(size, TIMES, source) for size in (count, against)]
    ones = [torch.ones(1, size, dtype=torch.float64) for size in (count, against)]
    ours, theirs = (scores.kid(some, real_MD) for some in (ours_ND, theirs_ND))
    value = float(ours(*ones) - theirs(*ones))
    low, high = scores.interval(ours(*weights) - theirs(*weights), confidence, around=value)
    return {"value": value, "low": low, "high": high}


def seconds(models: Sequence[Path]) -> list[float]:
    """Seconds an image that each model needs here, drawn in turn so that a busy moment meets all of them."""
    loaded = [sampling.load(model, "cuda" if torch.cuda.is_available() else "cpu") for model in models]
    best = [torch.inf] * len(models)
    for turn in range(1 + _ROUNDS):
        for at, denoiser in enumerate(loaded):
            began = time.monotonic()
            sampling.sample(denoiser, [-1] * _TIMED, seed=0)
            if turn:  # the first one warms up
                best[at] = min(best[at], (time.monotonic() - began) / _TIMED)
    return best


def _drawn_alike(champion: Path, ours: Sequence[Mapping[str, Any]]) -> Tensor | None:
    if not (champion / drawn.SAMPLES_FILE).is_file():  # registered before there were tables
        return None
    theirs = drawn.samples(champion, features=True)
    same = ("sample", "seed", "label")
    if [[row[name] for name in same] for row in theirs] != [[row[name] for name in same] for row in ours]:
        return None
    return torch.tensor([row["features"] for row in theirs])


def _sizes(version: Path) -> list[list[int]] | None:
    """Height, width and number of the samples of a version, where they have several shapes."""
    found: list[list[int]] | None = files.read_json_object(version / "scores.json", "evaluate it again").get("sizes")
    return found


def _draw(
    run: measure.Run, denoiser: sampling.Denoiser, ours: Sequence[Mapping[str, Any]], shapes: Sequence[tuple[int, ...]],
    classes: Sequence[str],
) -> Tensor:  # fmt: skip
    """Features of the samples for the seeds and labels of ``ours``; a label that the denoiser does not know is none.

    One that is told captions alone gets those of images of the label, which is one of ``classes`` of the pack.
    """
    known = {name: number for number, name in enumerate(denoiser.classes or (classes if denoiser.text else ()))}
    made = measure.samples(run, [known.get(row["label"], -1) for row in ours], seed=ours[0]["seed"], shapes=shapes)
    return measure.described(run, made, "features of samples")
