"""The table of words in the model report."""

from types import SimpleNamespace

from components.report.words import MOST, words


def shown(rows):
    section = words(SimpleNamespace(scores={"words": rows}))
    return section and "".join(map(str, section.body))


def test_words_are_shown_with_how_often_their_image_is_found():
    text = shown([{"word": "fish", "images": 1200, "found": 0.625}])
    assert "fish" in text and "1,200" in text and "62%" in text
    assert words(SimpleNamespace(scores={})) is None and shown([]) is None


def test_of_many_words_the_best_and_the_worst_are_shown():
    rows = [{"word": f"w{chr(97 + at % 26)}{at}", "images": 5, "found": 1 - at / 200} for at in range(200)]
    text = shown(rows)
    assert sum(f">{row['word']}<" in text for row in rows) == MOST
    assert f">{rows[0]['word']}<" in text and f">{rows[-1]['word']}<" in text and f">{rows[100]['word']}<" not in text
