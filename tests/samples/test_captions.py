"""Captions as they are learnt: whatever came, a line of text to read."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fixtures import HOSTILE, LONG, SCRIPT, ZALGO

from components.samples import captions


@pytest.mark.parametrize(("came", "wanted"), [
    ("a red  fish\r\n\tat sea", "a red fish at sea"),
    ("<p>a <b>red</b> fish</p>", "a red fish"),
    ("&lt;b&gt;red&lt;/b&gt; &amp; blue", "red & blue"),
    ("5 < 6, and 7 > 6", "5 < 6, and 7 > 6"),
    (SCRIPT, ""),
    ("<!-- nobody sees it -->a fish", "a fish"),
    ("fish\u202egnp.exe\u0000\u2066\u200b", "fishgnp.exe"),
    ("<b></b> &nbsp; \u200b", ""),
    ("红色的鱼 سمكة حمراء मछली", "红色的鱼 سمكة حمراء मछली"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("❤️", "❤️"),
    ("cafe\u0301", "café"),
])  # fmt: skip
def test_what_is_left_is_what_a_person_reads(came, wanted):
    assert captions.clean(came, 300) == wanted


def test_a_long_caption_is_cut_after_a_word():
    assert captions.clean(LONG, 20) == "caption caption"
    assert captions.clean("x" * 300, 20) == "x" * 20
    assert len(captions.clean(LONG, captions.MOST)) <= captions.MOST


def test_marks_upon_marks_are_thinned_out():
    assert len(captions.clean(ZALGO, 300)) <= 6


def test_hostile_captions_take_no_time():
    began = time.process_time()
    for bad in (*HOSTILE, "<script>" * 20_000, "<!--" * 40_000, "<" * 200_000, "&" * 200_000, "<a" * 100_000):
        captions.clean(bad, 300)
    assert time.process_time() - began < 5


@given(st.text(max_size=200))
def test_cleaned_once_is_cleaned_for_ever_and_printable(text):
    found = captions.clean(text, 40)
    assert len(found) <= 40 and "\n" not in found and found == found.strip()
    assert not any(each < " " for each in found)


def test_one_text_may_hold_several_captions_each_of_them_once():
    assert captions.several("a fish\n\n a fish \nred", "\n", 300) == ["a fish", "red"]
    assert captions.several("a fish\nred", None, 300) == ["a fish red"]
    assert captions.several(None, "\n", 300) == []


def test_a_label_makes_a_caption():
    assert captions.of_label("a picture of a {label}", "red_fish", 300) == "a picture of a red fish"
    assert captions.of_label("{label}", "<i>{0}</i>", 300) == "{0}"
