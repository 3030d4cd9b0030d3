"""Charts as inline SVG: axes with units, labels, no script.  Colours are classes, so that dark mode holds.

Lengths are SVG units; a chart is ``WIDTH`` wide and is drawn at about that many CSS pixels or more, so that
its 11 px letters stay letters on a phone.  Series: (name, colour class number, points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.html.page import Safe, cut, el, escape, figures

WIDTH = 384
_TOP, _RIGHT, _BOTTOM, _LEFT = 30, 14, 38, 50


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """A measured value with its interval; ``low`` and ``high`` in the unit of ``value``."""

    name: str
    value: float
    low: float
    high: float
    colour: int = 1
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """A curve: ``points`` are (x, y) or (x, y, low, high); ``paint`` is a colour class like ``1`` or ``t3``."""

    name: str
    points: Sequence[tuple[float, ...]]
    paint: str = "s1"
    dashed: bool = False
    marks: bool = field(default=False)


def bars(
    title: str, entries: Sequence[tuple[str, Sequence[float]]], *, unit: str, names: Sequence[str] = ("",),
) -> Safe:  # fmt: skip
    """Horizontal bars, stacked when an entry has more than one value; ``names`` are those of the stack."""
    top = max((sum(values) for _, values in entries), default=0) or 1
    labels = [cut(name, 26, tell=False) for name, _ in entries]
    left = min(170, 14 + 6.2 * max((len(label) for label in labels), default=1))
    plot, row = WIDTH - left - 62, 21
    parts = [_head(title)]
    for at, ((name, values), label) in enumerate(zip(entries, labels, strict=True)):
        y, x = 34 + at * row, left
        shown = escape(label)
        parts.append(
            el("text", el("title", cut(name, 200, tell=False)), shown, x=_n(left - 7), y=_n(y + 11), class_="end")
        )
        for which, value in enumerate(values):
            width = plot * value / top
            if value:
                tip = f"{cut(name, 60, tell=False)} {names[which]}: {value:,.0f} {unit}"
                parts.append(_rect(x, y, max(width, 1.0), 15, f"f{which + 1}", tip))
            x += width
        parts.append(el("text", f"{sum(values):,.0f}", x=_n(x + 5), y=_n(y + 11), class_="value"))
    height = 34 + len(entries) * row + 20
    parts.append(_line(left, 30, left, height - 20, "axis"))
    parts.append(el("text", unit, x=_n(left), y=_n(height - 5)))
    chart = _svg(title, height, parts)
    return Safe(chart + _legend([(name, f"f{at + 1}") for at, name in enumerate(names)], len(names) > 1))


def columns(title: str, entries: Sequence[tuple[str, float]], *, x_unit: str, y_unit: str) -> Safe:
    """A histogram: one column an entry, its count above it."""
    height, top = 230, max((value for _, value in entries), default=0) or 1
    plot, tall = WIDTH - _LEFT - _RIGHT, height - _TOP - 22 - _BOTTOM
    step = plot / max(1, len(entries))
    parts = [_head(title), el("text", y_unit, x="2", y="34")]
    base = height - _BOTTOM
    for at, (name, value) in enumerate(entries):
        x, length = _LEFT + at * step, tall * value / top
        wide = min(step * 0.76, 48.0)
        parts.append(_rect(x + (step - wide) / 2, base - length, wide, max(length, 0.0), "f1", f"{name}: {value:,.0f}"))
        middle = _n(x + step / 2)
        parts.append(el("text", f"{value:,.0f}", x=middle, y=_n(base - length - 4), class_="mid value"))
        parts.append(el("text", name, x=middle, y=_n(base + 14), class_="mid"))
    parts.append(_line(_LEFT, base, WIDTH - _RIGHT, base, "axis"))
    parts.append(el("text", x_unit, x=_n(_LEFT + plot / 2), y=_n(height - 6), class_="mid"))
    return _svg(title, height, parts)


def whiskers(title: str, entries: Sequence[Whisker], *, unit: str, reference: float | None = None) -> Safe:
    """Dots with their intervals, one below the other on one scale that starts at nought or lower.

    ``reference`` is drawn as a dashed upright line.
    """
    labels = [cut(entry.name, 20, tell=False) for entry in entries]
    left = min(150, 16 + 6.4 * max((len(label) for label in labels), default=1))
    ends = [end for entry in entries for end in (entry.low, entry.high)] + [0.0]
    ends += [] if reference is None else [reference]
    axis = _Axis.fit(min(ends), max(ends), left, WIDTH - _RIGHT - 6)
    row = 30 if len(entries) < 6 else 20
    base = 34 + row * len(entries)
    parts = [_head(title), *_x_ticks(axis, 30, base)]
    if reference is not None:
        parts.append(_line(axis.at(reference), 28, axis.at(reference), base, "axis dash"))
    for at, (entry, label) in enumerate(zip(entries, labels, strict=True)):
        y = 34 + row * at + row / 2
        colour = f"s{entry.colour}"
        interval = f"interval {figures(entry.low)} to {figures(entry.high)}"
        tip = f"{cut(entry.name, 200, tell=False)}: {figures(entry.value)}, {interval}"
        parts.append(el("text", label, x=_n(left - 8), y=_n(y + 4), class_="end value"))
        parts.append(_line(axis.at(entry.low), y, axis.at(entry.high), y, f"{colour} line"))
        parts += [_line(axis.at(end), y - 4, axis.at(end), y + 4, f"{colour} line") for end in (entry.low, entry.high)]
        dot = f"{colour} hollow" if entry.hollow else f"f{entry.colour}"
        parts.append(el("circle", el("title", tip), cx=_n(axis.at(entry.value)), cy=_n(y), r="4", class_=dot))
    parts.append(el("text", unit, x=_n((left + WIDTH - _RIGHT) / 2), y=_n(base + 32), class_="mid"))
    return _svg(title, base + 38, parts)


def lines(
    title: str, series: Sequence[Series], *, x_unit: str, y_unit: str, log_x: bool = False, log_y: bool = False,
    from_zero: bool = False,
) -> Safe:  # fmt: skip
    """Curves over one pair of axes; points with four numbers get a whisker from the third to the fourth."""
    height = 256
    good = [
        Series(name=one.name, paint=one.paint, dashed=one.dashed, marks=one.marks,
               points=[p for p in one.points if _drawable(p, log_x, log_y)])
        for one in series
    ]  # fmt: skip
    xs = [p[0] for one in good for p in one.points]
    ys = [value for one in good for p in one.points for value in p[1:]]
    if not xs:
        return _svg(title, 70, [_head(title), el("text", "no points", x="2", y="44")])
    x_axis = _Axis.fit(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, log=log_x, round_=False)
    y_axis = _Axis.fit(0.0 if from_zero else min(ys), max(ys), height - _BOTTOM, _TOP + 20, log=log_y)
    parts = [
        _head(title),
        el("text", y_unit, x="2", y="34"),
        *_y_ticks(y_axis),
        *_x_ticks(x_axis, None, height - _BOTTOM),
    ]
    for one in good:
        parts += _curve(one, x_axis, y_axis)
    parts.append(_line(_LEFT, height - _BOTTOM, WIDTH - _RIGHT, height - _BOTTOM, "axis"))
    parts.append(el("text", x_unit, x=_n((_LEFT + WIDTH - _RIGHT) / 2), y=_n(height - 5), class_="mid"))
    legend = _legend([(one.name, one.paint + (" dash" if one.dashed else "")) for one in series], len(series) > 1)
    return Safe(_svg(title, height, parts) + legend)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def fit(cls, low: float, high: float, start: float, end: float, *, log: bool = False, round_: bool = True) -> _Axis:
        if log:
            ticks = _log_ticks(low, high)
            if low == high:
                low, high = low / 2, high * 2
            elif round_:
                low, high = low * 0.9, high * 1.1
            return cls(low, high, start, end, True, tuple(t for t in ticks if low <= t <= high))
        if low == high:
            low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
        step = _nice((high - low) / 4)
        if round_:
            low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
        first = math.ceil(low / step - 1e-9)
        count = math.floor((high + 1e-9 * step) / step) - first + 1
        return cls(low, high, start, end, False, tuple((first + at) * step for at in range(count)))

    def at(self, value: float) -> float:
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def _curve(one: Series, x_axis: _Axis, y_axis: _Axis) -> list[Safe]:
    parts = []
    dash = " dash" if one.dashed else ""
    if len(one.points) > 1:
        path = " ".join(f"{_n(x_axis.at(p[0]))},{_n(y_axis.at(p[1]))}" for p in one.points)
        parts.append(el("polyline", el("title", one.name), points=path, class_=f"line {one.paint}{dash}"))
    for p in one.points:
        x, y = x_axis.at(p[0]), y_axis.at(p[1])
        if len(p) == 4:
            ends = [y_axis.at(p[2]), y_axis.at(p[3])]
            parts.append(_line(x, ends[0], x, ends[1], f"line {one.paint}"))
            parts += [_line(x - 4, end, x + 4, end, f"line {one.paint}") for end in ends]
        if one.marks or len(one.points) == 1 or len(p) == 4:
            tip = f"{one.name}: {figures(p[1])} at {figures(p[0])}"
            parts.append(el("circle", el("title", tip), cx=_n(x), cy=_n(y), r="3", class_=f"{one.paint} hollow"))
    return parts


def _x_ticks(axis: _Axis, top: float | None, base: float) -> list[Safe]:
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(_line(x, base - 4 if top is None else top, x, base, "grid"))
        parts.append(el("text", _tick(tick), x=_n(x), y=_n(base + 14), class_="mid"))
    return parts


def _y_ticks(axis: _Axis) -> list[Safe]:
    parts = []
    for tick in axis.ticks:
        y = axis.at(tick)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
        parts.append(el("text", _tick(tick), x=_n(_LEFT - 6), y=_n(y + 4), class_="end"))
    return parts


def _tick(value: float) -> str:
    if value and (abs(value) >= 1e4 or abs(value) < 1e-3):
        if abs(value) >= 1e4 and value % 100 == 0:
            return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
        mantissa, power = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:.6g}"


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for leads in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)):
        ticks = [lead * 10.0**power for power in decades for lead in leads]
        if sum(low <= tick <= high for tick in ticks) >= 4:
            break
    return ticks


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(lead * power for lead in (1, 2, 2.5, 5, 10) if lead * power >= step * 0.999)


def _drawable(point: tuple[float, ...], log_x: bool, log_y: bool) -> bool:
    if not all(math.isfinite(value) for value in point):
        return False
    return (not log_x or point[0] > 0) and (not log_y or min(point[1:]) > 0)


def _legend(entries: Sequence[tuple[str, str]], wanted: bool) -> Safe:
    if not wanted:
        return Safe("")
    made = []
    for name, paint in entries:
        mark = _rect(0, 0, 20, 10, paint, "") if paint.startswith("f") else _line(0, 5, 20, 5, f"line {paint}")
        made.append(el("li", el("svg", mark, viewBox="0 0 20 10", aria_hidden="true"), name))
    return el("ul", made, class_="legend")


def _svg(title: str, height: float, parts: Sequence[Safe]) -> Safe:
    return el("svg", list(parts), viewBox=f"0 0 {WIDTH} {_n(height)}", role="img", aria_label=title)


def _head(title: str) -> Safe:
    return el("text", title, x="2", y="14", class_="head")


def _rect(x: float, y: float, width: float, height: float, paint: str, tip: str) -> Safe:
    title = el("title", tip) if tip else None
    return el("rect", title, x=_n(x), y=_n(y), width=_n(width), height=_n(height), rx="2", class_=paint)


def _line(x1: float, y1: float, x2: float, y2: float, paint: str) -> Safe:
    return el("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=paint)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
