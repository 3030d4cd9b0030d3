"""Captions as they came to captions as they are learnt: no markup, nothing invisible, of a bounded length."""

from __future__ import annotations

import html
import re
import unicodedata

MOST = 10_000
"""Characters of a caption, the most that ``encode.text.characters`` may be."""

_MOST_MARKS = 4
"""Combining marks on one letter: Vietnamese and Hebrew have two or three, vandals sixty."""

_BLOCKS = re.compile(r"<(script|style)\b[^<>]*>.{0,2000}?</\1\s*>", re.IGNORECASE | re.DOTALL)
_COMMENTS = re.compile(r"<!--.{0,2000}?-->", re.DOTALL)
_TAGS = re.compile(r"</?[a-zA-Z!?][^<>]*>")
_JOINERS = "\u200c\u200d"  # of Persian, the scripts of India, and emoji: without them a word is another one


def clean(text: str, characters: int) -> str:
    """``text`` without tags, comments, entities and control characters, in one line of ``characters`` at most.

    Letters of every script stay.  What is longer is cut after a word.  Empty when nothing is left to read.
    """
    text = html.unescape(text[: 8 * MOST])  # before the tags: what was escaped is markup that somebody saved twice
    for markup in (_BLOCKS, _COMMENTS, _TAGS):
        text = markup.sub(" ", text)
    kept, marks = [], 0
    for each in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(each)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if each.isspace() or kind == "Cc":
            kept.append(" ")
        elif marks <= _MOST_MARKS and (kind[0] != "C" or each in _JOINERS):
            kept.append(each)
    found = " ".join("".join(kept).split())
    if len(found) > characters:
        head, space, _ = found[: characters + 1].rpartition(" ")
        found = head if space else found[:characters]
    return found if any(not unicodedata.category(each).startswith(("C", "M", "Z")) for each in found) else ""


def several(text: str | None, separator: str | None, characters: int) -> list[str]:
    """The captions that ``text`` holds between ``separator`` (None: it is one), cleaned, each once, in their order."""
    parts = [] if text is None else [text] if separator is None else text[: 64 * MOST].split(separator)
    return list(dict.fromkeys(filter(None, (clean(part, characters) for part in parts))))


def of_label(template: str, label: str, characters: int) -> str:
    """``template`` with ``label`` for its ``{label}``, which is read as words: ``a picture of a red_fish``."""
    return clean(template.replace("{label}", label.replace("_", " ")), characters)
