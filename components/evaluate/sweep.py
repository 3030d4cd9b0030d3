"""Quality against the way of drawing, its steps above all: where more work no longer pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.dataset import tensors
from components.diffusion import names, samplers
from components.evaluate import classifier, measure, paired, scores
from components.evaluate.metrics import bootstrap
from components.evaluate.params import EvaluateParams
from components.evaluate.shapes import Asked
from components.model import sampling
from components.model.sampling import Denoiser

SAMPLES = 128
"""Pictures drawn in each way, at most: spread evenly over the mix of classes."""

LEARNT = 4096
"""Training images from which the classifier of a sweep learns, at most: spread evenly over them."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of drawing; the fields are arguments of :func:`components.model.sampling.plan`."""

    steps: int
    sampler: names.Sampler
    guidance: float
    autoguidance: float

    @property
    def calls(self) -> int:
        """Calls of a network for one picture with a label, the guide's among them."""
        walked = (self.steps - 1) * samplers.SAMPLERS[self.sampler].calls + 1
        return walked * (1 + (self.guidance != 1) + (self.autoguidance != 1))

    @property
    def name(self) -> str:
        """For a metric."""
        return f"{self.steps}_{self.sampler}_guidance_{self.guidance:g}_autoguidance_{self.autoguidance:g}"


def own(model: Denoiser) -> Way:
    """The way in which ``model`` draws unless somebody says otherwise."""
    return Way(steps=model.steps, sampler=model.sampler, guidance=model.guidance, autoguidance=model.autoguidance)


def ways(params: EvaluateParams, model: Denoiser) -> list[Way]:
    """Those to compare: that of the model too where they differ in more than steps; UserError for one that cannot be.

    None for a distilled student, which knows one number of steps.
    """
    if model.sigmas:
        return []
    usual = own(model)
    found = [replace(usual, steps=each) if isinstance(each, int) else Way(**each.model_dump()) for each in params.sweep]
    for way in found:
        sampling.plan(model, **asdict(way))
    return [usual, *found] if usual not in found and not _steps_alone(found, usual) else found


def swept(
    params: EvaluateParams, run: measure.Run, model: Denoiser, asked: Asked, held_out_MD: Tensor, *, pixels: Path,
    rows: Sequence[int],
) -> list[dict[str, Any]]:  # fmt: skip
    """The kernel distance of each way of ``params.sweep``, from the same noise for the same labels.

    Where ways differ in more than steps, ``agreement`` is the share of pictures that a classifier, learnt from the
    training images ``rows`` of the pack ``pixels``, takes for their label, and its ``change`` the difference to the
    model's own way.  ``change`` is the difference of the distance to the best of those that agree no less, by paired
    bootstrap.
    """
    whole = len(asked.class_ids)
    wanted, usual, count = ways(params, model), own(model), min(SAMPLES, whole)
    some = asked.some([at * whole // count for at in range(count)])
    points: list[dict[str, Any]] = []
    described = []
    for way in wanted:
        drawn = measure.samples(run, some.class_ids, seed=params.seed, shapes=some.shapes, **asdict(way))
        described.append(measure.described(run, drawn, f"features in {way.steps} steps"))
        distance = scores.kid(described[-1], held_out_MD)
        score = scores.score(distance, count, len(held_out_MD), **bootstrap(params))
        points.append({**asdict(way), "calls": way.calls, "samples": count, **score})
    if not _steps_alone(wanted, usual) and (learnt := _learnt(run, pixels, rows)):
        guesses = [classifier.predict(learnt, each) for each in described]
        _agree(params, points, guesses, some.class_ids, wanted.index(usual))
    if points:
        best = described[points.index(min(_faithful(points), key=lambda point: point["value"]))]
        for point, each in zip(points, described, strict=True):
            point["change"] = paired.change(each, best, held_out_MD, confidence=params.confidence)
    return points


def _agree(
    params: EvaluateParams, points: list[dict[str, Any]], guesses: Sequence[Sequence[int | None]],
    class_ids: Sequence[int], usual: int,
) -> None:  # fmt: skip
    """Note the agreement of each point, compared with that of point number ``usual``."""
    right = torch.tensor([[one == label for one, label in zip(some, class_ids, strict=True)] for some in guesses])
    for point, some in zip(points, right.double(), strict=True):
        change = scores.mean_interval(some - right[usual].double(), **bootstrap(params))
        point["agreement"] = {"value": float(some.mean()), "change": change}


def _faithful(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that agree with the label no less than the model's own way, beyond chance: it is one of them."""
    return [point for point in points if "agreement" not in point or point["agreement"]["change"]["high"] >= 0]


def _steps_alone(found: Sequence[Way], usual: Way) -> bool:
    return all(replace(way, steps=usual.steps) == usual for way in found)


def _learnt(run: measure.Run, pixels: Path, rows: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """The classifier; None without labels."""
    images, count = tensors.Pixels(pixels), min(LEARNT, len(rows))
    if not images.header.classes:
        return None
    some = [rows[at * len(rows) // count] for at in range(count)]
    features = measure.described_rows(run, pixels, some, "training features for the sweep")
    moments = classifier.Moments(len(images.header.classes), features.shape[1])
    moments.add(features, images.class_ids[some])
    return moments.scorer()


def knee(points: Sequence[dict[str, Any]]) -> Way | None:
    """The way of the fewest calls that is not worse than the best one beyond chance; None without points.

    Only ways that agree with the label no less than the model's own, beyond chance, are looked at; of ways of as many
    calls it is the one of the least distance.
    """
    fine = [point for point in _faithful(points) if point["change"]["low"] <= 0]
    return _way(min(fine, key=lambda point: (point["calls"], point["value"]))) if fine else None


def _way(point: Mapping[str, Any]) -> Way:
    return Way(**{field.name: point[field.name] for field in fields(Way)})


def numbers(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The metrics of a sweep; none without points."""
    found, all_ways = knee(points), [_way(point) for point in points]
    if found is None:
        return {}
    short = _steps_alone(all_ways, all_ways[0])
    kid = {
        f"sweep_kid_{way.steps if short else way.name}": point["value"]
        for way, point in zip(all_ways, points, strict=True)
    }
    return {**kid, "sweep_knee": found.steps, "sweep_knee_calls": found.calls}
