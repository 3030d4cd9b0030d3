"""Which images the words on a command line, a list or the name of a source mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.base.errors import UserError, brief
from components.samples.catalogue import Known


def of(
    known: Known, words: Sequence[str], listed: Path | None, source: str | None = None, *, what: str, ways: str
) -> set[str]:
    """The SHA-256 of the images that are meant; UserError for a bad word, or for none.

    ``what`` is what is done with them and ``ways`` how they can be named, for the message.
    """
    found: set[str] = set()
    for word in words:
        found |= known.named(word)
    if listed:
        try:
            lines = listed.read_text("utf-8").split("\n")  # splitlines would cut names at U+2028
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--list {listed}: cannot be read ({brief(error)}): wanted one id a line") from None
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith("#"):
                try:
                    found |= known.named(line.strip())
                except UserError as error:
                    raise UserError(f"{listed} line {number}: {error}") from None
    if source:
        found |= known.of_source(source)
    if not (words or listed or source):
        raise UserError(f"name what to {what}: {ways}")
    if not found:
        raise UserError(f"nothing to {what}: the list, or the source, holds no image of the present data")
    return found
