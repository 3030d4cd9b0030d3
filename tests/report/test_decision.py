"""The page of a decision: what was decided, how sure, and both versions side by side; hostile text stays text."""

import base64
import re

import pytest

from components.report.decision import Compared, page

EVIDENCE = {"confidence": 0.95, "margin": 0.0, "x0_error_change": -0.082, "x0_error_change_low": -0.1,
            "x0_error_change_high": -0.06,
            "kid_change": -0.5, "kid_change_low": -0.9, "kid_change_high": 0.1}  # fmt: skip
REASON = "Promoted: x0 error -8.2% against the champion (-10.0% to -6.0%)."


def version(number, seed=0):
    scores = {"x0_error": {"value": 0.1 * number, "low": 0.05, "high": 0.3}}
    return Compared(name=f"denoiser version {number}", scores=scores, samples=b"png %d" % number, seed=seed)


def made(decision=None, champion=None, **others):
    told = {"promote": True, "reason": REASON, "evidence": EVIDENCE, "against": "denoiser version 1"}
    origin = [("git commit", "<script>alert(1)</script>")]
    return page({**told, **(decision or {})}, version(2), champion, **{"changes": [], "origin": origin, **others})


def test_the_first_screen_says_better_or_worse_by_how_much_and_how_sure():
    text = made(champion=version(1))
    first = text[text.index("<h1>") : text.index("<nav")]
    assert "denoiser version 2: promoted" in first and REASON in first
    assert "-8.2%" in first and "-10.0% to -6.0%; below 0 is better" in first and "95%" in first
    assert "Compared with denoiser version 1" in first


def test_both_are_shown_side_by_side():
    text = made(champion=version(1))
    drawn = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    assert drawn == [b"png 2", b"png 1"]
    assert "from seed 0" in text
    assert "from seeds of their own" in made(champion=version(1, seed=5))
    assert "0.2 (0.05 to 0.3)" in text and "0.1 (0.05 to 0.3)" in text


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [({"promote": False}, "not promoted"), ({"promote": False, "waits": True}, "better, waits for approval")],
)
def test_the_title_is_the_decision(decision, verdict):
    assert f"denoiser version 2: {verdict} · Stillroom" in made(decision)


def test_without_a_champion_nothing_is_compared():
    text = made({"evidence": {"confidence": 0.95}, "reason": "Promoted: the first version in this registry."})
    assert "Confidence" not in text and "side by side" not in text
    assert "There was no champion then." in text and "What changed" not in text
    assert text.count("data:image/png") == 1


def test_what_changed_is_told_and_text_is_text():
    text = made(champion=version(1), changes=[("parameters", "train.seed", "0", "<b>1</b>")])
    assert "train.seed" in text and "&lt;b&gt;1&lt;/b&gt;" in text
    assert text.count("<script") == 1 and "<script>alert" not in text and "&lt;script&gt;" in text
