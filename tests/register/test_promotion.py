"""The gate: who is promoted, who is not, and what it says."""

import json

import pytest
import torch

from components.register.gate import KID, decide, relative_change
from components.register.params import RegisterParams

PARAMS = RegisterParams(name="denoiser", confidence=0.95, margin=0.0, max_memorised=0.05)


def errors(scale=1.0, seed=0, noise=0.0):
    source = torch.Generator().manual_seed(0)
    base = torch.randn(100, 8, generator=source).exp()
    own = torch.randn(100, 8, generator=torch.Generator().manual_seed(seed)) * noise
    return (base * scale * own.exp()).tolist()


def rows(count, share):
    return [{"label": None, "copy": at < share * count} for at in range(count)]


def scored(scale=1.0, kid=(1.0, 0.9, 1.1), share=0.0, **changes):
    value, low, high = kid
    return {
        "scores": {KID: {"value": value, "low": low, "high": high, "floor": {"value": 0.1, "low": 0.0, "high": 0.2}}},
        "samples": rows(100, share),
        "held_out": rows(100, 0.01),
        "errors": errors(scale, **changes),
    }


def test_the_first_is_promoted():
    without_errors = {name: part for name, part in scored().items() if name != "errors"}
    decision = decide(without_errors, None, PARAMS)
    assert decision.promote
    assert decision.reason == "Promoted: the first version in this registry."


def test_a_clearly_better_one_is_promoted_and_a_worse_one_is_not():
    assert decide(scored(0.9), scored(), PARAMS).promote
    assert not decide(scored(1.1), scored(), PARAMS).promote


@pytest.mark.parametrize(("margin", "below"), [(0.0, "0 %"), (0.05, "-5 %")])
def test_an_equal_one_is_not_promoted_and_the_reason_names_the_bound(margin, below):
    decision = decide(scored(), scored(), PARAMS.model_copy(update={"margin": margin}))
    assert not decision.promote
    assert decision.reason.endswith(f"To be promoted, the whole interval must lie below {below}.")


def test_better_by_chance_is_not_enough():
    decision = decide(scored(0.999, seed=1, noise=0.5), scored(1.0, seed=2, noise=0.5), PARAMS)
    assert not decision.promote
    assert decision.evidence["x0_error_change_low"] < 0 < decision.evidence["x0_error_change_high"]


def test_better_by_less_than_the_margin_is_not_enough():
    asked = PARAMS.model_copy(update={"margin": 0.2})
    assert not decide(scored(0.9), scored(), asked).promote
    assert decide(scored(0.7), scored(), asked).promote


def test_worse_pictures_beyond_the_intervals_are_not_promoted():
    decision = decide(scored(0.9, kid=(2.0, 1.8, 2.2)), scored(), PARAMS)
    assert not decision.promote
    assert KID in decision.reason
    assert decide(scored(0.9, kid=(1.15, 1.05, 1.3)), scored(), PARAMS).promote, "the intervals overlap"


@pytest.mark.parametrize("champion", [None, scored(2.0)])
@pytest.mark.parametrize(
    ("candidate", "word"),
    [
        (scored(share=0.2), "copies"),
        (scored(kid=(float("nan"), 0.0, 1.0)), "not finite"),
        (scored() | {"errors": [[float("inf")] * 8]}, "not finite"),
        (scored() | {"errors": []}, "any image"),
    ],
)
def test_vetoes_hold_whatever_the_champion(candidate, champion, word):
    decision = decide(candidate, champion, PARAMS)
    assert not decision.promote
    assert word in decision.reason


def test_copies_in_one_class_are_a_veto_when_chance_does_not_explain_them():
    def labelled(**shares):
        return [{"label": label, "copy": at < hits} for label, (hits, of) in shares.items() for at in range(of)]

    told = scored() | {"held_out": labelled(a=(0, 30), b=(2, 30))}
    of_class = decide(told | {"samples": labelled(a=(5, 10), b=(2, 190))}, None, PARAMS)
    assert of_class.reason == (
        "Not promoted: 5 of its 10 samples of class 'a' are copies of training images, against 0 of 30 held-out images."
    )
    assert decide(told | {"samples": labelled(a=(1, 2), b=(0, 198))}, None, PARAMS).promote, "two samples tell little"
    assert decide(told | {"samples": labelled(a=(0, 10), b=(15, 190))}, None, PARAMS).promote, "as real ones do"


def test_the_evidence_is_plain_data_and_the_decision_repeats():
    first, second = (decide(scored(0.95, seed=3, noise=0.1), scored(), PARAMS) for _ in range(2))
    assert first == second
    json.dumps(first.evidence, allow_nan=False)


def test_errors_of_other_images_cannot_be_compared():
    with pytest.raises(ValueError, match="same images"):
        relative_change(errors(), errors()[:50], 0.95)


def test_the_change_is_relative_and_paired():
    change, low, high = relative_change(errors(0.9), errors(), 0.95)
    assert (change, low, high) == pytest.approx((-0.1, -0.1, -0.1))
