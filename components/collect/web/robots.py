"""What a site asks of robots: robots.txt (RFC 9309) and the header X-Robots-Tag.

The standard library's parser is older than the RFC: it knows neither ``*`` and ``$`` nor that the longest rule wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

NAME = "stillroom"
"""What sites call this robot."""
MOST_BYTES = 500 * 1024  # the RFC's least limit; what comes after it is not read
_NO = ("noai", "noimageai")
_AGENT = re.compile(r"[A-Za-z_-]+|\*")
_KEPT = re.compile(r"%(2f|2a|24|3f|25)", re.IGNORECASE)  # characters that mean another thing when they are encoded


@dataclass(frozen=True)
class Rules:
    """The rules for this robot, each a path pattern and whether it allows; the longest that matches decides."""

    lines: tuple[tuple[str, bool], ...] = ()

    def allow(self, target: str) -> bool:
        """Whether ``target`` (path and query) may be fetched; robots.txt itself always may."""
        path = _normal(target)
        if path == "/robots.txt":
            return True
        return max(((len(pattern), allow) for pattern, allow in self.lines if _match(pattern, path)),
                   default=(0, True))[1]  # fmt: skip


EVERYTHING = Rules()


def parse(blob: bytes) -> Rules:
    """The rules of a robots.txt for this robot: those of every group that names it, else those of ``*``."""
    mine: list[tuple[str, bool]] = []
    others: list[tuple[str, bool]] = []
    agents: set[str] = set()
    named = heading = False
    for line in blob[:MOST_BYTES].decode("utf-8-sig", "replace").splitlines():
        field, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        field = field.lower()
        if field == "user-agent":
            if not heading:
                agents, heading = set(), True
            agent = _AGENT.match(value)
            agents.add(agent[0].lower() if agent else "")
            named |= NAME in agents
        elif field in ("allow", "disallow"):
            heading = False
            if value:  # an empty rule matches nothing
                rule = (_normal(value), field == "allow")
                if NAME in agents:
                    mine.append(rule)
                if "*" in agents:
                    others.append(rule)
    return Rules(tuple(mine if named else others))


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


def _normal(path: str) -> str:
    """``path`` with each character percent-encoded in one way only, so that spellings compare."""
    kept = _KEPT.sub(lambda found: "%25" + found[1].upper(), path)
    return quote(unquote_to_bytes(kept), safe="/*$?&=;:@!'()+,~%")


def _match(pattern: str, path: str) -> bool:
    """Whether ``pattern`` matches a beginning of ``path``; in time linear in both for each star."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for number, part in enumerate(rest, start=1):
        if anchored and number == len(rest):
            return len(path) - at >= len(part) and path.endswith(part)
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return at == len(path) if anchored else True
