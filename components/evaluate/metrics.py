"""The scores of a candidate, each with its interval, the extractor of its features and the numbers of images.

Shapes: N samples, M held-out images, F training images in place of samples, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.diffusion import schedule
from components.embed import features, judges, vectors
from components.evaluate import manifold, retrieval, scores
from components.evaluate.params import EvaluateParams
from components.model import sampling
from components.samples import tallies

X0_PRECISION = "fp32"
"""The arithmetic in which x0 errors are measured, on every device."""

COLOURS = "colours"
"""The second judge beside the network: it needs no weights, and knows colours and edges alone."""

_BATCH = 64

Score = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the scores are computed from."""

    drawn: Sequence[Tensor]
    """The samples, uint8 NHWC in runs of one shape."""
    errors: Tensor
    """Squared x0 errors of the test images by noise level, (N, 8)."""
    fake: Tensor
    """Features of the samples, (N, D)."""
    held_out: Tensor
    """Features of the validation and test images, (M, D)."""
    floor: Tensor
    """Features of as many training images as there are samples, or of all, (F, D)."""
    colours: tuple[Tensor, Tensor, Tensor]
    """Colours and edges of the samples, the held-out images and those training images: a second judge."""
    judged: Sequence[tuple[judges.Judge, tuple[Tensor, Tensor, Tensor]]]
    """Features of the same three by each judge that was asked for."""
    sweep: list[dict[str, Any]]
    """Points of quality by steps (:mod:`components.evaluate.sweep`)."""
    extra: Sequence[Tensor]
    """As ``drawn``: samples that fill the rows of rare labels, scored nowhere (:mod:`components.evaluate.gallery`)."""
    retrieved: retrieval.Retrieved | None = None
    """Test images by what was drawn of their captions; None for a model that takes none."""


def bootstrap(params: EvaluateParams) -> dict[str, Any]:
    """How an interval is computed, as arguments of :mod:`components.evaluate.scores`."""
    return {"times": params.replicates, "confidence": params.confidence, "seed": params.seed}


def of_sets(params: EvaluateParams, found: Measured) -> dict[str, Score]:
    """Scores of the samples as a set beside the held-out images.

    ``floor``, or ``ceiling`` where more is better: the same for as many real training images, which no model is
    expected to beat.
    """
    table = {}
    weights: dict[str, dict[str, str]] = {by.network: {"weights": by.sha256} for by, _ in found.judged}
    sizes = {"images": len(found.fake), "against": len(found.held_out)}
    asked = [("kid", features.NAME, scores.kid, (found.fake, found.held_out, found.floor)),
             ("fd", features.NAME, scores.frechet, (found.fake, found.held_out, found.floor)),
             ("kid", COLOURS, scores.kid, found.colours)]  # fmt: skip
    for by, sets in found.judged:
        asked += [("kid", by.network, scores.kid, sets), (by.frechet, by.network, scores.frechet, sets)]
    for name, judge, distance, (fake, real, floor) in asked:
        main, least = (
            scores.score(distance(some, real), len(some), len(real), **bootstrap(params)) for some in (fake, floor)
        )
        table[f"{name}_{judge}"] = {**main, "floor": least, "features": judge, **weights.get(judge, {}), **sizes}
    ours, best = (manifold.per_image(some, found.held_out) for some in (found.fake, found.floor))
    for name, values in ours.items():
        main, most = (scores.mean_interval(some, **bootstrap(params)) for some in (values, best[name]))
        table[f"{name}_{features.NAME}"] = {**main, "ceiling": most, "features": features.NAME, **sizes}
    return table


def colours(runs: Sequence[Tensor]) -> Tensor:
    """Colours and edges of uint8 images in runs of one shape (B, H, W, C), (N, 256) float32, without a network.

    By :mod:`components.embed.vectors`.
    """
    found = [
        torch.from_numpy(vector).float()
        for run in runs
        for some in run.split(_BATCH)
        for vector in vectors.embed(list(some.numpy()), name=COLOURS)
    ]
    return torch.stack(found)


def of_labels(
    params: EvaluateParams, samples: Iterable[Mapping[str, Any]], held_out: Iterable[Mapping[str, Any]]
) -> dict[str, Score]:
    """The accuracy of the classifier on the samples; ``ceiling``: on held-out images.  Empty without one."""
    ours, real = ([found for row in rows if (found := tallies.recognised(row)) is not None]
                  for rows in (samples, held_out))  # fmt: skip
    if not ours or not real:
        return {}
    main, ceiling = (scores.mean_interval(torch.tensor(some).double(), **bootstrap(params)) for some in (ours, real))
    sizes = {"features": features.NAME, "images": len(ours), "against": len(real)}
    return {f"accuracy_{features.NAME}": {**main, "ceiling": ceiling, **sizes}}


def of_captions(params: EvaluateParams, found: Measured) -> dict[str, Score]:
    """How often a test image is found by what was drawn of its caption; empty for a model that takes none."""
    if found.retrieved is None:
        return {}
    return {f"retrieval_{features.NAME}": retrieval.score(found.retrieved, **bootstrap(params))}


def of_noise_levels(params: EvaluateParams, errors: Tensor, denoiser: sampling.Denoiser) -> dict[str, Any]:
    """``x0_error`` over all levels, and the parts of scores.json that hold it and the loss by level."""
    *by_sigma, whole = scores.mean_intervals(errors, **bootstrap(params))
    edges = schedule.band_edges(denoiser.objective.schedule.low, denoiser.objective.schedule.high)
    losses = []
    for band, part in enumerate(by_sigma):
        # The factor of the x0 error in the loss.
        weight = float(denoiser.objective.weight(torch.tensor(schedule.SIGMAS[band]), denoiser.weighting))
        loss = {name: part[name] * weight for name in ("value", "low", "high")}
        losses.append({"level": band, "sigma_low": edges[band], "sigma_high": edges[band + 1], **loss})
    return {
        "x0_error": {**whole, "precision": X0_PRECISION, "images": len(errors)},
        "x0_error_by_sigma": [
            {"sigma": sigma, **part} for sigma, part in zip(schedule.SIGMAS, by_sigma, strict=True)
        ],
        "loss_by_level": losses,
    }  # fmt: skip


def numbers(table: Mapping[str, Score]) -> dict[str, float]:
    """The scores among the metrics of the stage."""
    found: dict[str, float] = {}
    for name, part in table.items():
        found |= {name: part["value"], f"{name}_low": part["low"], f"{name}_high": part["high"]}
        found |= {f"{name}_{end}": part[end]["value"] for end in ("floor", "ceiling") if end in part}
        found |= {f"{name}_{more}": part[more] for more in ("chance", "median_place") if more in part}
    return found


def memorised(samples: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> dict[str, float]:
    """The metrics of memorisation: shares in all, and the largest excess over held-out images in one class."""
    near = tallies.tally(samples, held_out, tallies.copy)
    classes = tallies.by_class(samples, held_out, tallies.copy).values()
    return {
        "memorised_share": near.share, "memorised_real_share": near.real_share,
        "memorised_class_excess": max(each.share - each.real_share for each in classes),
    }  # fmt: skip
