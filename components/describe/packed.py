"""The parts of the data report drawn from the pack: what training sees, and the embedding map."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from components.describe import paircards
from components.describe.evidence import Evidence
from components.describe.overview import NO_LABEL, Limits
from components.html import page
from components.html.page import Child, Safe, Section, cut, el
from components.html.sprites import Sprites
from components.samples import pack
from components.samples.pack import SPLITS

MAP_SIDE = 32  # pixels of a picture on the map, stored and shown
_VIEW = (960, 640)  # CSS pixels of the whole map, for which pictures are picked that do not overlap
ZOOMS = (1, 2, 4, 8)  # how many times the map can be enlarged
_SPACING = MAP_SIDE + 4  # CSS pixels from the middle of one picture to that of the next, at least


def seen(data: Evidence, limits: Limits, packed: Sprites) -> Section:
    """A few images of the pack for each label, with the pixels that training reads."""
    header, spec = data.header, data.header.spec
    train = data.kept[(data.kept["split"] == "train") & (data.kept["row"] >= 0)]
    if not len(train) or not limits.per_class:
        return Section("seen", "What training sees", [page.empty("No training image to show.")])
    ids = pack.read_classes(data.pixels)
    labels = [header.classes[ids[row]] if ids[row] >= 0 else NO_LABEL for row in train["row"]]
    train = train.assign(label=labels)
    entries: list[Child] = []
    names = sorted(set(labels), key=lambda name: (name == NO_LABEL, name))
    each = min(limits.per_class, max(1, limits.pictures // len(names)))
    by_label = train.groupby("label")  # once: there may be as many labels as images
    for name in names[: max(1, limits.pictures)]:
        of_label = by_label.get_group(name)
        # By hash: a sample that looks random, stays the same, and changes little when images are added.
        shown = of_label.sort_values("sha256").head(each)
        cells = []
        for row in shown.itertuples():
            packed.add(str(row.row), data.pack_row(row.row))
            cells.append(packed.cell(str(row.row), f"{paircards.name(row)} (training pixels)"))
        entries += [
            el("dt", cut(name, limits.characters), el("small", page.plural(len(of_label), "train image"))),
            el("dd", cells),
        ]
    return Section("seen", "What training sees", [
        page.note(f"The pixels that training reads, {header.size} with {spec.channels} channels, "
                  f"enlarged {packed.scale} times without smoothing: transparency is laid on the matte, the picture is "
                  "cropped or padded, and scaled. A few of each label, picked by their hash."),
        el("dl", entries, class_="samples"),
        page.hidden(len(entries) // 2, len(names), "labels"),
    ])  # fmt: skip


def embedding_map(data: Evidence, sheet: Sprites, *, most: int) -> Section:
    """A scatter plot of thumbnails, at most ``most``: images that the embedding finds similar lie close together."""
    title = "Embedding map"
    if data.points is None:
        return Section(
            "map", title, [page.empty("No map: it is drawn from the profile of the data, which is missing.")]
        )
    by_row = data.by_row
    points = [point for point in data.points.itertuples(index=False) if point.row in by_row]
    # By hash, so that the order of arrival does not decide who is on the map and who is a picture there.
    shown = sorted(points, key=lambda point: by_row[point.row].sha256)[:most]
    if not shown:
        return Section("map", title, [page.empty("No image to place on a map.")])
    zooms = zoom_levels(np.array([(point.x, point.y) for point in shown]))
    pictures = data.pack_rows(point.row for point in shown)
    marks = [_mark(pictures[point.row], by_row[point.row], point, zoom, sheet)
             for point, zoom in zip(shown, zooms, strict=True)]  # fmt: skip
    return Section("map", title, [
        page.note("An embedding is a list of numbers for each image, by a small network. What looks alike to it lies "
                  "close together, and the axes have no meaning of their own. Where there is no room for a picture, a "
                  "dot stands for it: point at it, or come closer. An island of one split, or a dense spot, deserves a "
                  "look."),
        el("div", _controls({by_row[point.row].split for point in shown}),
           el("div", el("div", marks, class_="plane"), class_="view", role="region", tabindex="0",
              aria_label=f"Map of {page.plural(len(shown), 'image')}"),
           class_="map"),
        page.hidden(len(shown), len(data.kept), "images"),
    ])  # fmt: skip


def _mark(picture: Image.Image, row: Any, point: Any, zoom: int, sheet: Sprites) -> Safe:
    key = str(point.row)
    sheet.add(key, _shrunk(picture))
    split = row.split if row.split in SPLITS else "quarantine"
    style = f"{sheet.position(key)};--x:{100 * point.x:.1f};--y:{100 * point.y:.1f}"
    return el("i", class_=f"px soft {sheet.sheet(key)} z{zoom} {split}", title=paircards.name(row), style=style)


def _shrunk(picture: Image.Image) -> Image.Image:
    if max(picture.size) > MAP_SIDE:
        picture.thumbnail((MAP_SIDE, MAP_SIDE), Image.Resampling.LANCZOS)
    return picture


def _controls(splits: set[str]) -> Safe:
    """Zoom and legend: inputs whose state the style sheet reads; no script."""
    made = []
    for zoom in ZOOMS:
        choice = el("input", type="radio", name="zoom", id=f"zoom{zoom}", checked=zoom == 1)
        made.append(el("label", choice, "Whole" if zoom == 1 else f"{zoom} ×"))
    for split in SPLITS:
        if split in splits:
            choice = el("input", type="checkbox", id=f"show-{split}", checked=True)
            made.append(el("label", choice, split, class_=split))
    return el("p", made)


def zoom_levels(points: np.ndarray) -> list[int]:
    """For each of ``points`` (N, 2), 0..1, the least of ZOOMS at which its picture overlaps none before it.

    Where it overlaps at each of them, the largest of ZOOMS.
    """
    found = [0] * len(points)
    for zoom in ZOOMS[:-1]:
        spots = (points * np.array(_VIEW) * zoom).tolist()
        taken: dict[tuple[int, int], list[list[float]]] = {}
        # Pictures at a lower zoom are pictures at this one too, so they take their room first.
        for at in sorted(range(len(points)), key=lambda at: (found[at] == 0, at)):
            (x, y), column, row = spots[at], int(spots[at][0] // _SPACING), int(spots[at][1] // _SPACING)
            near = [spot for i in (-1, 0, 1) for j in (-1, 0, 1) for spot in taken.get((column + i, row + j), ())]
            if found[at] == 0 and any(abs(u - x) < _SPACING and abs(v - y) < _SPACING for u, v in near):
                continue
            found[at] = found[at] or zoom
            taken.setdefault((column, row), []).append(spots[at])
    return [zoom or ZOOMS[-1] for zoom in found]
