"""The part of the data report on sizes: sides, shapes, megapixels and bytes, modes and formats."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from components.describe.evidence import Evidence
from components.describe.overview import Limits, ranked
from components.html import charts, page
from components.html.page import Child, Section

_COLUMNS = 9  # columns of a histogram, as many as have room for their names
_SHAPES = (0.5, 0.8, 0.995, 1.005, 1.25, 2.0)  # width over height, between one name and the next
_SHAPE_NAMES = ("< 1:2", "to 4:5", "to 1:1", "1:1", "to 5:4", "to 2:1", "> 2:1")


def sizes(data: Evidence, limits: Limits) -> Section:
    """How the sources' sizes are distributed, before anything was resized."""
    images = data.images
    known = images[images["width"].notna() & (images["width"] > 0) & (images["verdict"] != "withdrawn")]
    title = "Sizes, modes and formats"
    if not len(known):
        return Section("shapes", title, [page.empty("No image could be decoded.")])
    width, height = known["width"].astype(float), known["height"].astype(float)
    measured = {
        "Width": (width, "pixels", "As decoded, after turning as EXIF says."),
        "Height": (height, "pixels", "Small sides are enlarged, large ones shrunk to the side that training uses."),
        "Megapixels": (width * height / 1e6, "megapixels", "What decoding costs grows with it."),
        "Bytes": (known["size"].astype(float), "bytes of a file", "Few bytes for many pixels: strong compression."),
    }  # fmt: skip
    figures = [page.figure(charts.columns(name, histogram(values), x_unit=unit, y_unit="images"), words)
               for name, (values, unit, words) in measured.items()]  # fmt: skip
    aspect = width / height
    bins = np.searchsorted(_SHAPES, aspect)
    entries = [(name, int((bins == at).sum())) for at, name in enumerate(_SHAPE_NAMES)]
    figures.insert(2, page.figure(charts.columns("Aspect", entries, x_unit="width : height", y_unit="images"),
                                  "Upright to the left, wide to the right; what is far from 1:1 loses most when "
                                  "it is made square."))  # fmt: skip
    for column, name, words in (
        ("mode", "Pixel mode", "RGBA and LA have transparency, P a palette; for training all become RGB."),
        ("format", "File format", "As the bytes say it, whatever the name ends in."),
    ):
        figures.append(page.figure(_verdicts(known, column, name), words))
    common = known.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    frequent = [[f"{int(wide):,} × {int(high):,}", page.count(number), page.share(number, len(known))]
                for (wide, high), number in common.items()]  # fmt: skip
    rows = [_spread(name, values, page.size if name == "Bytes" else page.figures)
            for name, (values, _, _) in measured.items()]  # fmt: skip
    rows.insert(2, _spread("Width : height", aspect, page.figures))
    return Section("shapes", title, [
        page.note(f"{page.plural(len(known), 'image')} that could be read, before anything was resized."),
        page.side_by_side(*figures),
        page.table(["What", "Least", "5 %", "Median", "95 %", "Most"], rows, caption="How they spread",
                   numbers=range(1, 6)),
        page.table(["Width × height", "Images", "Share"], frequent[: min(limits.rows, 20)],
                   caption="Most frequent sizes, pixels", numbers=[1, 2], total=len(frequent)),
        _packed(data),
    ])  # fmt: skip


def _packed(data: Evidence) -> Child:
    """How many pictures each shape of the pack has, and how much of them was cut away; None where there is one."""
    kept, shapes = data.kept[data.kept["row"] >= 0], data.header.shapes
    if len(shapes) == 1:
        return None
    of_rows = [data.header.shape(row) for row in kept["row"]]
    own = (kept["height"] / kept["width"]).astype(float).tolist()
    rows: list[list[Child]] = []
    for shape in shapes:
        aspect = shape[1] / shape[2]
        left = [min(one, aspect) / max(one, aspect) for one, other in zip(own, of_rows, strict=True) if other == shape]
        lost = 1 - sum(left) / max(1, len(left))
        rows.append([f"{shape[2]} × {shape[1]}", page.count(len(left)), page.share(len(left), len(kept)),
                     page.share(lost, 1)])  # fmt: skip
    return page.table(["Width × height", "Images", "Share", "Cut away, on average"], rows,
                      caption="Shapes that training uses, pixels", numbers=[1, 2, 3])  # fmt: skip


def histogram(values: pd.Series) -> list[tuple[str, int]]:
    """Counts of ``values`` (at least 0): of each when there are few, else in steps of 1, 2, 5, 10, ... or of tens.

    Every value is counted: what lies beyond the last column is in it.
    """
    exact = values.value_counts().sort_index()
    if len(exact) <= 6:
        steps: dict[str, int] = {}
        for value, number in exact.items():  # values that read alike are one column
            steps[_short(value)] = steps.get(_short(value), 0) + int(number)
        return list(steps.items())
    for leads in ((1, 2, 5), (1,)):
        edges = _edges(float(values[values > 0].min()), float(values.max()), leads)
        if len(edges) <= _COLUMNS:
            break
    edges = edges[-_COLUMNS:]
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 1)
    columns = []
    for number, low in enumerate(edges):
        name = f"{_short(low)}+"
        if number == 0 and float(values.min()) < low:
            name = f"< {_short(edges[1])}"
        columns.append((name, int((at == number).sum())))
    return columns


def _edges(low: float, high: float, leads: tuple[int, ...]) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    edges = [lead * 10.0**power for power in powers for lead in leads]
    first = max((edge for edge in edges if edge <= low), default=edges[0])
    return [edge for edge in edges if first <= edge <= high]


def _short(value: float) -> str:
    """A number in at most some six characters."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}{name}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _spread(name: str, values: pd.Series, show: Callable[[float], str]) -> list[Child]:
    return [name, *(show(value) for value in values.quantile([0.0, 0.05, 0.5, 0.95, 1.0]))]


def _verdicts(known: pd.DataFrame, column: str, title: str) -> Child:
    names = known[column].fillna("unknown").astype(str)
    counts = known.groupby([names, known["verdict"]]).size()
    entries = [(name, [int(counts.get((name, "kept"), 0)), int(counts.get((name, "rejected"), 0))])
               for name, _ in ranked(names.value_counts())[:12]]  # fmt: skip
    return charts.bars(title, entries, unit="images", names=("kept", "rejected"))
