"""The data report: its numbers, its limits, its empty cases, and what a browser makes of it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import report_fixtures as made
from browser import Browser

from components.describe import DescribeParams, describe
from components.errors import UserError

PARAMS = DescribeParams(**made.DESCRIBE)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report on hostile data, and its numbers."""
    paths = made.data_states(tmp_path_factory.mktemp("hostile"))
    return paths["page"], describe(PARAMS, **paths)


@pytest.fixture(scope="module")
def shown(hostile):
    """The same in Chromium: wide, narrow and dark."""
    counts = "[document.title, document.scripts.length, document.images.length]"
    with Browser() as browser:
        return {
            "wide": browser.open(hostile[0], evaluate=counts),
            "narrow": browser.open(hostile[0], width=400),
            "dark": browser.open(hostile[0], dark=True, evaluate="getComputedStyle(document.body).backgroundColor"),
        }  # fmt: skip


def test_numbers_of_the_inputs_are_on_the_page(shown):
    text = shown["wide"].text
    assert "30 images came in from 1 source; 24 (80.0 %) are kept" in text
    assert re.search(r"Refused\s+1\s", text)
    assert re.search(r"Rejected\s+5\s+16\.7 % of what came in", text)
    assert re.search(r"Withdrawn\s+1\s", text)
    assert "climbs out of the source" in text
    assert "3 bits of 64 differ · difference 0.0123" in text
    assert "alike, kept apart" in text and "0.31" in text
    assert "24 × 20" in text
    assert "none lies in two of train, val and test" in text


@pytest.mark.parametrize("view", ["wide", "narrow", "dark"])
def test_the_page_is_silent_asks_nobody_and_fits(shown, view):
    assert shown[view].console == []
    assert shown[view].requests == []
    assert shown[view].overflow <= 0


def test_hostile_names_are_text(shown):
    text = shown["wide"].text
    assert made.SCRIPT in text
    assert made.BREAKOUT[:20] in text
    assert "photo⟨U+202E⟩gnp.exe␀" in text
    assert made.LONG[:200] not in text
    assert "more characters)" in text
    assert shown["wide"].values["result"] == ["Data report · Stillroom", 0, 0]


def test_the_dark_scheme_is_dark(shown):
    red, green, blue = map(int, re.findall(r"\d+", shown["dark"].values["result"])[:3])
    assert max(red, green, blue) < 60


def test_every_picture_of_the_page_is_drawn(hostile):
    """Two cells' pixels, as the browser draws them, differ from the ground on which they stand."""
    with Browser() as browser:
        ask = "[...document.querySelectorAll('.px')].every(e => getComputedStyle(e).backgroundImage.startsWith('url'))"
        assert browser.open(hostile[0], evaluate=ask).values["result"] is True


def test_broken_and_withdrawn_images_are_frames_with_a_reason(hostile):
    text = hostile[0].read_text("utf-8")
    for reason in ("damaged", "too large", "withdrawn"):
        assert f">{reason}</span>" in text
    assert hostile[1]["unreadable"] == 0


def test_equal_inputs_give_equal_bytes_wherever_they_lie(hostile, tmp_path):
    paths = made.data_states(tmp_path / "else" / "where")
    describe(PARAMS, **paths)
    assert paths["page"].read_bytes() == hostile[0].read_bytes()
    assert str(tmp_path).encode() not in paths["page"].read_bytes()


def test_limits_hold_and_say_what_is_missing(tmp_path):
    few = PARAMS.model_copy(update={"thumbnails": 2, "rows": 1, "seen_per_class": 1, "characters": 20})
    paths = made.data_states(tmp_path)
    numbers = describe(few, **paths)
    text = paths["page"].read_text("utf-8")
    assert "1 of 3 groups shown, 2 not shown." in text
    assert "1 of 3 rows shown, 2 not shown." in text
    assert re.search(r"2 of 3 labels shown, 1 not shown", text)
    assert numbers["pictures"] < 15
    assert "caption caption capt… (9,980 more characters)" in text


def test_the_most_doubtful_come_first(tmp_path):
    paths = made.data_states(tmp_path, images=60)
    describe(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    assert 0 < text.index("7 bits of 64 differ") < text.index("3 bits of 64 differ")


def test_no_thumbnails_at_all(tmp_path):
    paths = made.data_states(tmp_path)
    describe(PARAMS.model_copy(update={"thumbnails": 0, "seen_per_class": 0}), **paths)
    assert "0 of 1 images shown, 1 not shown." in paths["page"].read_text("utf-8")
    assert "base64" not in paths["page"].read_text("utf-8")


def test_nothing_dropped_no_groups_no_labels(tmp_path):
    paths = made.data_states(tmp_path, drop=False, labels=False, hostile=False)
    describe(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    for line in (
        "Nothing was refused", "Nothing was dropped", "No two images look alike", "No kept image has a label",
        "Nothing is in quarantine", "(no label)",
    ):  # fmt: skip
        assert line in text


def test_a_leak_is_said_aloud(tmp_path):
    paths = made.data_states(tmp_path, leak=True)
    describe(PARAMS, **paths)
    assert "the test scores will be too good" in paths["page"].read_text("utf-8")


def test_states_that_do_not_belong_together_are_one_line(tmp_path):
    paths = made.data_states(tmp_path / "a")
    other = made.data_states(tmp_path / "b", images=12)
    with pytest.raises(UserError, match=r"not the verdicts on the images .* run stage 'clean' again"):
        describe(PARAMS, **{**paths, "raw": other["raw"]})


def test_a_broken_thumbnail_is_crossed_out_and_counted(tmp_path, monkeypatch):
    from components import images

    def broken(*args: object, **options: object):
        raise images.Damaged("damaged", "gone bad since")

    monkeypatch.setattr(images, "decode", broken)
    paths = made.data_states(tmp_path)
    assert describe(PARAMS, **paths)["unreadable"] > 0


def test_it_starts_without_torch():
    code = "import sys, components.describe, components.report; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
