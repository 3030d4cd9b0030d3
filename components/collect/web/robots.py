"""What a site asks of robots: robots.txt (RFC 9309, read by Protego) and the header X-Robots-Tag."""

from __future__ import annotations

import re
from collections.abc import Iterable

from protego import Protego

NAME = "stillroom"
"""What sites call this robot."""
MOST_BYTES = 500 * 1024  # the RFC's least limit; what comes after it is not read
_NO = ("noai", "noimageai")
# What follows a robot's name in its line, as in "Stillroom/2.0", is no part of the name (RFC 9309, 2.2.1).
_MORE = re.compile(r"^([ \t]*user-agent[ \t]*:[ \t]*[a-z_-]+)[^a-z_\r\n-][^\r\n]*", re.IGNORECASE | re.MULTILINE)


class Rules:
    """The rules of a robots.txt for this robot: those of every group that names it, else those of ``*``."""

    def __init__(self, blob: bytes = b"") -> None:
        text = blob[:MOST_BYTES].decode("utf-8-sig", "replace")
        self._rules = Protego.parse(_MORE.sub(r"\1", text))

    def allow(self, target: str) -> bool:
        """Whether ``target`` (path and query) may be fetched; robots.txt itself always may."""
        return self._rules.can_fetch("http://any" + target, NAME)  # "//x" alone would be a host

    @property
    def delay(self) -> float:
        """Seconds that are to lie between two requests (Crawl-delay), 0 for none."""
        return self._rules.crawl_delay(NAME) or 0.0


EVERYTHING = Rules()


def forbidding(values: Iterable[str]) -> str:
    """The word in the X-Robots-Tag headers ``values`` that keeps an image from training; '' when none does."""
    for value in values:
        agent, colon, rest = value.partition(":")
        words = value
        if colon and re.fullmatch(r"\s*(\*|[\w-]+)\s*", agent) and agent.strip().lower() != "unavailable_after":
            if agent.strip().lower() not in (NAME, "*"):
                continue  # a rule for another robot
            words = rest
        for word in words.lower().split(","):
            if word.strip() in _NO:
                return word.strip()
    return ""
