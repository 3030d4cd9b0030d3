"""How often the gate is wrong, in 1,000 simulated comparisons: its error rate is known, not hoped for."""

import math

import pytest
import torch

from components.register.gate import KID, decide
from components.register.params import RegisterParams

PARAMS = RegisterParams(
    name="denoiser", confidence=0.95, margin=0.0, max_memorised=0.05, min_class_accuracy=0.1, max_slowdown=None,
    licences=None,
)  # fmt: skip
TRIALS = 1000
TOLD = {"scores": {KID: {"value": 1.0, "low": 0.9, "high": 1.1}}, "samples": [], "held_out": []}


def promoted(images: int, ratio: float, correlation: float) -> float:
    """The share of trials in which a candidate is promoted whose true error is ``ratio`` of the champion's.

    The squared errors of an image are log-normal, harder at some images than at others for both models alike: what
    the two have in common is ``correlation`` of the variance of the logarithm (a standard deviation of 1).
    """
    source = torch.Generator().manual_seed(images)
    count = 0
    for _ in range(TRIALS):
        shared = torch.randn(images, 8, generator=source) * math.sqrt(correlation)
        ours, theirs = (
            (shared + torch.randn(images, 8, generator=source) * math.sqrt(1 - correlation)).exp() for _ in range(2)
        )
        both = [{**TOLD, "errors": errors} for errors in ((ours * ratio).tolist(), theirs.tolist())]
        count += decide(both[0], both[1], PARAMS).promote
    return count / TRIALS


@pytest.mark.slow(8)
@pytest.mark.parametrize("correlation", [0.5, 0.99])
@pytest.mark.parametrize("images", [40, 150])
def test_equal_models_replace_each_other_in_at_most_one_of_twenty_trials(images, correlation):
    assert promoted(images, 1.0, correlation) <= 0.05


@pytest.mark.slow(17)
def test_a_worse_model_is_refused_and_a_better_one_is_seen():
    assert promoted(150, 1.05, 0.99) <= 0.01
    assert promoted(150, 0.95, 0.99) >= 0.95
