"""The gate: decides whether a candidate becomes the champion.

The candidate is the version just trained; the champion is the one in use.  The decision is a pure function of their
scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.register import vetoes
from components.register.params import RegisterParams

TIMES = 2000
"""Bootstrap samples of the comparison."""

KID = "kid_efficientnet_lite0"
"""The score that may stop a candidate: the kernel distance to real images. Lower is better."""


@dataclass(frozen=True)
class Decision:
    """Whether to promote, why in one sentence, and the numbers behind it (plain data)."""

    promote: bool
    reason: str
    evidence: dict[str, Any]


def decide(candidate: Mapping[str, Any], champion: Mapping[str, Any] | None, params: RegisterParams) -> Decision:
    """Promote a candidate when there is no champion yet, or when it is better than the champion beyond chance.

    A veto (components/register/vetoes.py) comes before both.  A champion that knows none of the candidate's classes is
    replaced, whatever the errors of both: nobody can draw by it what the data shows now.  Better means two things.  The
    whole interval of the relative change of the x0 error (paired bootstrap over images) lies below -margin; and the
    whole interval of the change of the kernel distance (paired bootstrap over samples from the same seeds) does not lie
    above 0.

    Both are what components/register/evidence.py reads, as plain data: ``scores`` and ``classes``, and the candidate's
    ``samples`` and ``held_out``, the rows of its tables.  When there is a champion, both also hold ``errors``: squared
    x0 errors, (images, noise levels), of the same images with the same noise (components.evaluate.stage.x0_errors);
    the champion may hold ``kid_change`` (components.evaluate.paired), and the candidate ``seconds``.
    """
    evidence: dict[str, Any] = {"confidence": params.confidence, "margin": params.margin}
    veto = vetoes.first(candidate, params, evidence)
    if veto:
        return Decision(False, f"Not promoted: {veto}.", evidence)
    if champion is None:
        return Decision(True, "Promoted: the first version in this registry.", evidence)
    known, wanted = set(champion.get("classes", ())), candidate.get("classes", ())
    if wanted and not known.intersection(wanted):  # as after its source was replaced: it can draw none of them
        evidence |= {"classes": len(wanted), "classes_of_champion": len(known)}
        return Decision(True, f"Promoted: the champion knows none of the {len(wanted)} classes.", evidence)
    change, low, high = relative_change(candidate["errors"], champion["errors"], params.confidence)
    if not all(map(math.isfinite, (change, low, high))):
        return Decision(True, "Promoted: the champion's x0 error is not finite.", evidence)
    evidence |= {"x0_error_change": change, "x0_error_change_low": low, "x0_error_change_high": high}
    change_text = f"x0 error {change:+.1%} against the champion ({low:+.1%} to {high:+.1%})"
    if not high < -params.margin:
        rule = f"To be promoted, the whole interval must lie below {0 - 100 * params.margin:g} %."
        return Decision(False, f"Not promoted: {change_text}. {rule}", evidence)
    kid = champion.get("kid_change")
    if kid:
        evidence |= {"kid_change": kid["value"], "kid_change_low": kid["low"], "kid_change_high": kid["high"]}
        if kid["low"] > 0:
            worse = f"{KID} is worse by {kid['value']:.3g} ({kid['low']:.3g} to {kid['high']:.3g}) on the same seeds"
            return Decision(False, f"Not promoted: {change_text}, but {worse}.", evidence)
    return Decision(True, f"Promoted: {change_text}.", evidence)


def relative_change(
    candidate: Sequence[Sequence[float]], champion: Sequence[Sequence[float]], confidence: float
) -> tuple[float, float, float]:
    """Change of the geometric mean error as a share of the champion's, with the low and high end of its interval.

    Both arguments are squared x0 errors, (images, noise levels).  Below 0 the candidate is better; -0.1 is 10 % less.
    """
    import torch

    from components.evaluate import scores

    ours, theirs = (torch.as_tensor(errors, dtype=torch.float64) for errors in (candidate, champion))
    if ours.shape != theirs.shape or ours.ndim != 2:
        raise ValueError(f"errors of {tuple(ours.shape)} and {tuple(theirs.shape)} are not of the same images")
    count = len(ours)
    weights = scores.replicates(count, TIMES, torch.Generator().manual_seed(0))

    def change(w: torch.Tensor) -> torch.Tensor:
        return ((w @ ours).log() - (w @ theirs).log()).mean(1).exp() - 1

    low, high = scores.interval(change(weights), confidence)
    return float(change(torch.ones(1, count, dtype=torch.float64))), low, high
