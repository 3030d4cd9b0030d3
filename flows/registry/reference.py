"""Which version of a registered model a word means."""

from __future__ import annotations

import re

_FORM = re.compile(r"(?:models:/)?([^/@:]+)(@[^/@]+|/\d+)")


def parse(word: str) -> tuple[str, str] | None:
    """The model's name, and ``@alias`` or ``/number``; None where ``word`` is not of the form.

    The forms are NAME@ALIAS, NAME@NUMBER and NAME/NUMBER, each also behind ``models:/`` as MLflow writes it.
    """
    found = _FORM.fullmatch(word)
    if not found:
        return None
    name, where = found.groups()
    return name, f"/{where[1:]}" if where[1:].isdecimal() else where
