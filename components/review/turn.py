"""Long lists of the review page, page by page: each list has a page of its own behind its first pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from components.html.page import Child, Safe, el, hidden

_NEAR = 2  # pages that are linked on each side of the present one


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Which page of which list is looked at; the server of ``token`` has the others, a file has none."""

    list: str = ""
    """Its name; empty: the first page of each."""
    number: int = 1
    token: str = ""

    def shows(self, name: str) -> bool:
        """Whether anything of the list ``name`` is looked at."""
        return self.list in ("", name)

    def part(self, name: str, sizes: Sequence[int], room: int, what: str) -> tuple[slice, Child]:
        """Which entries of the list ``name`` are shown, and the line below them that leads to the others.

        ``sizes``: how many pictures each entry takes; ``room``: pictures on a page, of which an entry may be more.
        """
        pages = cut(sizes, room)
        at = min(self.number, len(pages)) if self.list == name else 1
        shown = pages[at - 1] if pages else slice(0, 0)
        if not self.token or len(pages) < 2:
            return shown, hidden(shown.stop - shown.start, len(sizes), what)
        return shown, self._line(name, at, len(pages), shown, len(sizes), what)

    def _line(self, name: str, at: int, last: int, shown: slice, total: int, what: str) -> Safe:
        near = {1, last, *range(at - _NEAR, at + _NEAR + 1)}
        links: list[Child] = []
        before = 0
        for number in sorted(near & set(range(1, last + 1))):
            links += [" … "] if number > before + 1 else [" "]
            links.append(el("b", f"{number:,}") if number == at else self._link(name, number, f"{number:,}"))
            before = number
        if at < last:
            links += [" ", self._link(name, at + 1, "Next")]
        if self.list:
            links += [" ", el("a", "All lists", href="?" + urlencode({"token": self.token}))]
        return el("p", f"{what.capitalize()} {shown.start + 1:,} to {shown.stop:,} of {total:,}. Page", *links,
                  class_="more")  # fmt: skip

    def _link(self, name: str, number: int, words: str) -> Safe:
        return el("a", words, href="?" + urlencode({"token": self.token, "list": name, "page": number}))


def cut(sizes: Sequence[int], room: int) -> list[slice]:
    """Pages of entries in order: each takes entries while their ``sizes`` come to at most ``room``, one at least."""
    pages, start, taken = [], 0, 0
    for at, size in enumerate(sizes):
        if at > start and taken + size > room:
            pages.append(slice(start, at))
            start, taken = at, 0
        taken += size
    return [*pages, slice(start, len(sizes))] if sizes else []
