"""What stops a candidate, whatever its x0 error is and whether or not there is a champion.

Each veto is a function of (candidate, params, evidence) that gives the reason, or "" for none, and adds its numbers to
the evidence.  They are asked in the order of :data:`VETOES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from components.register.params import RegisterParams
from components.samples import tallies

ENOUGH = 20
"""Samples of a class from which on it can be called collapsed."""

Veto = Callable[[Mapping[str, Any], RegisterParams, dict[str, Any]], str]


def first(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """The first reason to refuse the candidate, "" for none; the numbers of those asked are in ``evidence``."""
    return next((reason for veto in VETOES if (reason := veto(candidate, params, evidence))), "")


def not_finite(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """A score or an x0 error is NaN or infinite, or there is none."""
    for name, score in candidate["scores"].items():
        if not all(math.isfinite(score[part]) for part in ("value", "low", "high")):
            return f"{name} is not finite"
    errors = candidate.get("errors")
    if errors is not None and not len(errors):
        return "it was not scored on any image"
    if errors is not None and not all(math.isfinite(float(error)) for row in errors for error in row):
        return "an x0 error is not finite"
    return ""


def memorised(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """More samples copy training images than held-out images do: in all, or in one class beyond chance.

    Beyond chance: Fisher's exact test at ``confidence``, divided by the number of classes (Bonferroni).
    """
    samples, held_out = candidate["samples"], candidate["held_out"]
    whole = tallies.tally(samples, held_out, tallies.copy)
    classes = tallies.by_class(samples, held_out, tallies.copy)
    evidence |= {"memorised_share": whole.share, "memorised_real_share": whole.real_share}
    if whole.share > whole.real_share + params.max_memorised:
        return (
            f"{whole.share:.1%} of its samples are copies of training images, against {whole.real_share:.1%} of "
            "held-out images"
        )
    for label, found in classes.items():
        more = found.share > found.real_share + params.max_memorised
        if more and found.chance_of_more < (1 - params.confidence) / len(classes):
            evidence |= {"memorised_class": label, "memorised_class_share": found.share}
            return (
                f"{found.hits} of its {found.samples} samples {of_class(label)} are copies of training images, "
                f"against {found.real_hits} of {found.real} held-out images"
            )
    return ""


def collapsed(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """The classifier recognises the samples of a class far less often than its held-out images, beyond chance."""
    classes = tallies.by_class(candidate["samples"], candidate["held_out"], tallies.recognised, alone=True)
    for label, found in classes.items():
        fewer = found.share < params.min_class_accuracy * found.real_share and found.samples >= ENOUGH
        if fewer and found.chance_of_fewer < (1 - params.confidence) / len(classes):
            evidence |= {"collapsed_class": label, "collapsed_class_accuracy": found.share,
                         "collapsed_class_ceiling": found.real_share}  # fmt: skip
            return (
                f"class {label!r:.80} has collapsed: {found.share:.0%} of {found.samples} samples are recognised, "
                f"against {found.real_share:.0%} of {found.real} held-out images"
            )
    return ""


def too_slow(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """It needs more time an image than allowed; ``seconds`` are (its own, the champion's), measured side by side."""
    if params.max_slowdown is None or "seconds" not in candidate:
        return ""
    ours, theirs = candidate["seconds"]
    evidence |= {"seconds_an_image": ours, "champion_seconds_an_image": theirs}
    if ours <= params.max_slowdown * theirs:
        return ""
    return f"it needs {ours:.3g} s an image, {ours / theirs:.2f} times the champion's {theirs:.3g} s"


def not_licensed(candidate: Mapping[str, Any], params: RegisterParams, evidence: dict[str, Any]) -> str:
    """A source has a licence that ``register.licences`` does not name."""
    if params.licences is None:
        return ""
    for source, licence in sorted(candidate["licences"].items()):
        if licence not in params.licences:
            evidence |= {"licence_source": source, "licence": licence}
            return f"source {source!r:.80} has the licence {licence!r:.80}, which register.licences does not allow"
    return ""


def of_class(label: str) -> str:
    """``label`` as a message names it."""
    return f"of class {label!r:.80}" if label else "without a label"


VETOES: tuple[Veto, ...] = (not_finite, memorised, collapsed, not_licensed, too_slow)
