"""Quality against the number of sampling steps: where more of them no longer pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from components.evaluate import measure, paired, scores
from components.evaluate.metrics import bootstrap
from components.evaluate.params import EvaluateParams

SAMPLES = 128
"""Pictures drawn at each number of steps, at most: spread evenly over the mix of classes."""


def swept(
    params: EvaluateParams, run: measure.Run, class_ids: Sequence[int], held_out_MD: Tensor
) -> list[dict[str, Any]]:
    """The kernel distance in each of ``params.sweep`` steps, from the same noise for the same labels.

    ``change`` is the difference to the best of them, by paired bootstrap.
    """
    count = min(SAMPLES, len(class_ids))
    chosen = [class_ids[at * len(class_ids) // count] for at in range(count)]
    points: list[dict[str, Any]] = []
    described = []
    for steps in params.sweep:
        drawn = measure.samples(run, chosen, seed=params.seed, steps=steps)
        described.append(measure.described(run, drawn, f"features in {steps} steps"))
        distance = scores.kid(described[-1], held_out_MD)
        score = scores.score(distance, count, len(held_out_MD), **bootstrap(params))
        points.append({"steps": steps, "samples": count, **score})
    if points:
        best = described[min(range(len(points)), key=lambda at: points[at]["value"])]
        for point, some in zip(points, described, strict=True):
            point["change"] = paired.change(some, best, held_out_MD, confidence=params.confidence)
    return points


def knee(points: Sequence[Mapping[str, Any]]) -> int | None:
    """The fewest steps that are not worse than the best ones beyond chance; None without points."""
    return min((point["steps"] for point in points if point["change"]["low"] <= 0), default=None)


def numbers(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of a sweep; none without points."""
    found = knee(points)
    values = {f"sweep_kid_{point['steps']}": point["value"] for point in points}
    return values if found is None else {**values, "sweep_knee": found}
