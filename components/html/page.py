"""HTML builder that escapes by default: all text but the markup that this module makes.

``el("td", name, class_="key")`` makes an element; its children are text (escaped), ``Safe`` markup (kept),
None (nothing), or lists of these.  ``document`` wraps sections into one file that asks nobody for anything: no
font, no address, pictures as data, and a content policy that holds the reader to it.  The policy allows one script, by
its hash: the fixed text that finds and sorts (finder.py); on the page that takes decisions with that of
components/review.
"""

from __future__ import annotations

import base64
import hashlib
import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.html import finder, style

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
VOID = frozenset({"meta", "link", "br", "img", "input"})
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, format, surrogate, unassigned, breaks
_MARKS = 3  # combining marks in a row, past which a text climbs over its neighbours

Child = object


class Safe(str):
    """Markup of our own making, which goes into a page as it is."""

    __slots__ = ()


def visible(text: str) -> str:
    """``text`` with each character that a reader could not see written out: NUL as ␀, others as ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    out, marks = [], 0
    for character in text:
        code = ord(character)
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if code < 0x20:
            out.append(chr(0x2400 + code))
        elif category in _HIDDEN or marks > _MARKS:
            out.append(f"⟨U+{code:04X}⟩")
        else:
            out.append(character)
    return "".join(out)


def cut(text: object, limit: int, *, tell: bool = True) -> str:
    """At most ``limit`` characters of ``text``, and how many more there are (``tell``); "" for a missing one."""
    if not isinstance(text, str):
        return ""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} more characters)" if tell else f"{text[: limit - 1]}…"


def escape(child: Child) -> Safe:
    """``child`` as markup: text escaped and made visible, ``Safe`` kept, None empty, lists joined."""
    if child is None:
        return Safe("")
    if isinstance(child, Safe):
        return child
    if isinstance(child, (list, tuple)):
        return Safe("".join(escape(part) for part in child))
    return Safe(html.escape(visible(str(child)), quote=True))


def el(tag: str, *children: Child, **attributes: object) -> Safe:
    """An element; ``class_`` is class, ``aria_label`` is aria-label, None and False leave one out."""
    parts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(name if value is True else f'{name}="{escape(value)}"')
    start = f"<{' '.join(parts)}>"
    return Safe(start if tag in VOID else f"{start}{escape(list(children))}</{tag}>")


@dataclass(frozen=True)
class Section:
    """One entry of the table of contents and what stands under it."""

    key: str
    title: str
    body: Sequence[Child]


def note(*children: Child) -> Safe:
    """A paragraph that says how to read what follows."""
    return el("p", *children, class_="note")


def empty(text: str) -> Safe:
    """What stands in place of a list that holds nothing."""
    return el("p", text, class_="empty")


def fold(summary: Child, *children: Child, open_: bool = False, count: int | None = None) -> Safe:
    """What a reader may fold away."""
    number = None if count is None else el("span", f"{count:,}", class_="count")
    inside = el("div", *children, class_="inside")
    return el("details", el("summary", el("span", summary), number), inside, open_=open_)


def tiles(entries: Iterable[tuple[str, str, str]]) -> Safe:
    """Headline numbers: (name, value, remark)."""
    made = [
        el("div", el("dt", name), el("dd", value, class_="value"), el("dd", remark, class_="remark"))
        for name, value, remark in entries
    ]
    return el("dl", made, class_="tiles")


def table(
    header: Sequence[Child], rows: Sequence[Sequence[Child]], *, caption: str, numbers: Sequence[int] = (),
    total: int | None = None,
) -> Safe:  # fmt: skip
    """A table that scrolls inside itself; columns ``numbers`` are aligned right; ``total`` counts all rows."""
    kind = ["num" if at in numbers else None for at in range(len(header))]
    head = el("tr", [el("th", name, scope="col", class_=kind[at]) for at, name in enumerate(header)])
    body = [
        el("tr", [el("th", cell, scope="row", class_=kind[0]) if at == 0 else el("td", cell, class_=kind[at])
                  for at, cell in enumerate(row)])
        for row in rows
    ]  # fmt: skip
    grid = el("table", el("caption", caption), el("thead", head), el("tbody", body))
    more = hidden(len(rows), total, "rows")
    return Safe(el("div", grid, class_="scroll", role="region", aria_label=caption, tabindex="0") + escape(more))


def hidden(shown: int, total: int | None, what: str) -> Safe | None:
    """A line that tells how many of ``total`` are not shown; None when all are."""
    if total is None or total <= shown:
        return None
    return el("p", f"{shown:,} of {total:,} {what} shown, {total - shown:,} not shown.", class_="more")


def figure(picture: Child, caption: Child) -> Safe:
    """A picture or chart with the sentence that explains it."""
    return el("figure", picture, el("figcaption", caption))


def side_by_side(*figures: Child) -> Safe:
    """Figures side by side, as many as the page is wide."""
    return el("div", *figures, class_="charts")


def count(number: float) -> str:
    """A whole number with thousands separators."""
    return f"{round(number):,}"


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent; a dash when there is no whole."""
    return "–" if not whole else f"{100 * part / whole:.1f} %"


def size(number: float) -> str:
    """Bytes in the unit that reads best (powers of 1,000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def plural(number: int, one: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {one if number == 1 else one + 's'}"


def figures(number: float | None, digits: int = 3) -> str:
    """A measured number to ``digits`` significant digits; a dash for None and for not-a-number."""
    if number is None or number != number:
        return "–"
    if number and (abs(number) >= 1e6 or abs(number) < 1e-4):
        return f"{number:.{digits - 1}e}"
    text = f"{number:.{digits}g}"
    return f"{float(text):,.0f}" if "e" in text or abs(float(text)) >= 1000 else text


def policy(script: str, *, connect: bool = False) -> str:
    """The content policy of a page that runs our own ``script``, and with ``connect`` asks its server."""
    digest = base64.b64encode(hashlib.sha256((finder.SCRIPT + script).encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'" + ("; connect-src 'self'" if connect else "")


def document(
    title: str, lede: Child, sections: Sequence[Section], *, css: str = "", script: str = "", connect: bool = False
) -> str:
    """The whole file: ``lede`` under the title, then a table of contents and ``sections``.

    ``css`` carries the pictures.  It comes last, so that a reader sees the text before megabytes of sheets are read.
    ``script`` is text of our own with nothing put into it, run after the one that finds and sorts.
    """
    contents = [el("li", el("a", part.title, href=f"#{part.key}")) for part in sections]
    body = [
        el("section", el("h2", part.title, id=part.key), list(part.body), aria_labelledby=part.key) for part in sections
    ]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(script, connect=connect)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title} · Stillroom"),
        el("link", rel="icon", href="data:,"),
        Safe(f"<style>{style.CSS}{finder.CSS}</style>"),
    )
    page = el(
        "body",
        el("a", "Skip to the content", href="#content", class_="skip"),
        el("header", el("p", "Stillroom", class_="brand"), el("h1", title), el("div", lede, class_="lede")),
        el("nav", el("h2", "Contents"), el("ol", contents), aria_label="Contents"),
        el("main", body, id="content"),
        el(
            "footer",
            el("p", "One self-contained file. It loads nothing; its one script finds and sorts."),
        ),
        Safe(f"<style>{css}</style>") if css else None,
        Safe(f"<script>{finder.SCRIPT}{script}</script>"),
    )
    return f'<!doctype html>\n<html lang="en">\n{head}\n{page}\n</html>\n'
