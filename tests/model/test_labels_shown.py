"""A label comes from the data: it steers no terminal, and is no tag in the model card."""

import markdown_it  # rich brings it
import pytest

from components.base.errors import UserError
from components.model import card

HOSTILE = "a\x1b[2J\x07\u202e<script>alert(1)</script> [x](http://e) ![i](http://i) `c` **b** &lt; \\"


def test_a_label_in_the_card_is_shown_as_it_is_and_does_nothing():
    shown = markdown_it.MarkdownIt().render(card._plain(HOSTILE))
    for part in ("<script", "<a ", "<img", "<code", "<strong", "\x1b", "\x07", "\u202e"):
        assert part not in shown
    assert "alert(1)" in shown
    assert "[x](http://e)" in shown
    assert "&amp;lt;" in shown


@pytest.mark.parametrize("name", ["Smileys & Emotion", "people_body", "cat", "C++", "Vögel", "a-b, c"])
def test_a_plain_label_is_written_as_it_is(name):
    assert card._plain(name) == name


def test_an_error_that_repeats_a_label_steers_no_terminal():
    message = str(UserError(f"label {HOSTILE}: not one of\nthese"))
    assert message.startswith("label a\\x1b[2J\\x07\\u202e<script>")
    assert message.endswith("these")
    assert message.replace("\n", "").isprintable()
