"""The gate: who is promoted, who is not, and what it says."""

import json

import pytest
import torch

from components.register.gate import KID, decide, relative_change
from components.register.params import RegisterParams

PARAMS = RegisterParams(
    name="denoiser", confidence=0.95, margin=0.0, max_memorised=0.05, min_class_accuracy=0.1, max_slowdown=None,
    licences=None,
)  # fmt: skip


def errors(scale=1.0, seed=0, noise=0.0):
    source = torch.Generator().manual_seed(0)
    base = torch.randn(100, 8, generator=source).exp()
    own = torch.randn(100, 8, generator=torch.Generator().manual_seed(seed)) * noise
    return (base * scale * own.exp()).tolist()


def rows(count, share):
    return [{"label": None, "copy": at < share * count, "predicted": None} for at in range(count)]


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


@pytest.mark.parametrize(("before", "promoted"), [(["cats", "dogs"], True), ([], True), (["cats", "ships"], False)])
def test_a_champion_that_knows_none_of_the_classes_is_replaced_by_whatever_has_no_veto(before, promoted):
    candidate, champion = scored(1.1) | {"classes": ["ships", "planes"]}, scored() | {"classes": before}
    decision = decide(candidate, champion, PARAMS)
    assert decision.promote == promoted
    assert ("knows none of the 2 classes" in decision.reason) == promoted
    assert not decide(candidate | {"samples": rows(100, 1.0)}, champion, PARAMS).promote
    assert not decide(candidate | {"classes": []}, champion, PARAMS).promote, "without labels errors tell"


def test_worse_pictures_from_the_same_seeds_are_not_promoted():
    worse = scored() | {"kid_change": {"value": 1.0, "low": 0.2, "high": 1.8}}
    decision = decide(scored(0.9), worse, PARAMS)
    assert not decision.promote
    assert f"{KID} is worse by 1 (0.2 to 1.8) on the same seeds" in decision.reason
    assert decide(scored(0.9), worse | {"kid_change": {"value": 1.0, "low": -0.2, "high": 2.2}}, PARAMS).promote


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
        return [{"label": label, "copy": at < hits, "predicted": None} for label, (hits, of) in shares.items()
                for at in range(of)]  # fmt: skip

    told = scored() | {"held_out": labelled(a=(0, 30), b=(2, 30))}
    of_class = decide(told | {"samples": labelled(a=(5, 10), b=(2, 190))}, None, PARAMS)
    assert of_class.reason == (
        "Not promoted: 5 of its 10 samples of class 'a' are copies of training images, against 0 of 30 held-out images."
    )
    assert decide(told | {"samples": labelled(a=(1, 2), b=(0, 198))}, None, PARAMS).promote, "two samples tell little"
    assert decide(told | {"samples": labelled(a=(0, 10), b=(15, 190))}, None, PARAMS).promote, "as real ones do"


def recognised(**shares):
    return [{"label": label, "copy": False, "predicted": label if at < hits else "other"}
            for label, (hits, of) in shares.items() for at in range(of)]  # fmt: skip


def test_a_class_that_is_not_recognised_any_more_is_a_veto():
    told = scored() | {"held_out": recognised(a=(40, 50), b=(45, 50))}
    collapsed = told | {"samples": recognised(a=(1, 40), b=(30, 40))}
    decision = decide(collapsed, None, PARAMS)
    assert decision.reason == (
        "Not promoted: class 'a' has collapsed: 2% of 40 samples are recognised, against 80% of 50 held-out images."
    )
    assert decision.evidence["collapsed_class"] == "a"
    json.dumps(decision.evidence)
    assert decide(collapsed, None, PARAMS.model_copy(update={"min_class_accuracy": 0.0})).promote
    assert decide(told | {"samples": recognised(a=(4, 40), b=(30, 40))}, None, PARAMS).promote, "an eighth"
    assert decide(told | {"samples": recognised(a=(0, 19), b=(30, 40))}, None, PARAMS).promote, "19 tell little"
    unknown = told | {"samples": recognised(a=(30, 40), c=(0, 40))}
    assert decide(unknown, None, PARAMS).promote, "no held-out image of c says what to expect"


def test_slower_than_allowed_is_a_veto_where_it_is_asked_for():
    slow = scored(0.9) | {"seconds": [0.3, 0.1]}
    assert decide(slow, scored(), PARAMS).promote
    decision = decide(slow, scored(), PARAMS.model_copy(update={"max_slowdown": 2.0}))
    assert decision.reason == "Not promoted: it needs 0.3 s an image, 3.00 times the champion's 0.1 s."
    assert decide(slow, scored(), PARAMS.model_copy(update={"max_slowdown": 3.5})).promote


def test_a_licence_that_is_not_allowed_is_a_veto_where_there_is_a_list():
    told = scored() | {"licences": {"noto": "Apache-2.0", "scraped": "unknown"}}
    assert decide(told, None, PARAMS).promote
    strict = PARAMS.model_copy(update={"licences": ["Apache-2.0"]})
    assert decide(told, None, strict).reason == (
        "Not promoted: source 'scraped' has the licence 'unknown', which register.licences does not allow."
    )
    assert decide(told, None, PARAMS.model_copy(update={"licences": ["Apache-2.0", "unknown"]})).promote


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
