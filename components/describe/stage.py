"""Stage ``describe``: the data report."""

from __future__ import annotations

import logging
from pathlib import Path

from components.base import files
from components.describe import evidence
from components.describe.decided import decided
from components.describe.dropped import rejected, withdrawn
from components.describe.flagged import flagged
from components.describe.groups import groups, quarantine
from components.describe.labels import balance, captions, labels
from components.describe.overview import Limits, came_in, changes, refused, summary
from components.describe.packed import MAP_SIDE, embedding_map, seen
from components.describe.params import DescribeParams
from components.describe.sizes import sizes
from components.html.page import document
from components.html.sprites import Sprites

log = logging.getLogger(__name__)


def describe(
    params: DescribeParams, *, raw: Path, verdicts: Path, pixels: Path, splits: Path, page: Path,
    profile: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Show what came in, what was dropped and why, the groups, the labels, the splits and a map, on one page."""
    data = evidence.read(raw=raw, verdicts=verdicts, pixels=pixels, splits=splits, profile=profile)
    gallery = evidence.Gallery(data, raw, params.thumbnail_side)
    height, width = data.header.frame
    long = max(height, width)
    packed = Sprites("pack", width, height, scale=max(1, round(params.thumbnail_side / long)))
    placed = Sprites("map", min(MAP_SIDE, long), exact=False, quality=70, shown=MAP_SIDE)
    limits = Limits(rows=params.rows, characters=params.characters, pictures=params.thumbnails,
                    members=params.group_members, per_class=params.seen_per_class)  # fmt: skip
    sections = [
        came_in(data, limits),
        changes(),
        refused(data, limits),
        rejected(data, limits, gallery),
        decided(data, limits, gallery),
        withdrawn(data, limits, gallery),
        groups(data, limits, gallery),
        sizes(data, limits),
        labels(data, limits),
        captions(data, limits),
        balance(data, limits),
        quarantine(data, limits, gallery),
        flagged(data, limits, gallery),
        embedding_map(data, placed, most=params.map_points),
        seen(data, limits, packed),
    ]
    css = gallery.css() + packed.css() + placed.css()
    text = document("Data report", summary(data), sections, css=css)
    files.write_text(page, text)
    written = len(text.encode("utf-8"))
    pictures = len(gallery) + len(packed) + len(placed)
    log.info("%s: %d images described, %d pictures, %d bytes", page.name, len(data.images), pictures, written)
    return {"bytes": written, "pictures": pictures, "unreadable": gallery.unreadable}
