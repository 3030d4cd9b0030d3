"""The data behind the data report: tables joined by the images' numbers of arrival, and thumbnails on demand."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from components.base.errors import UserError
from components.decode import images
from components.html.page import Safe
from components.html.sprites import Sprites, blank
from components.samples import looks, manifest, pack, shards

UNSHOWABLE = {
    "damaged": "damaged", "not_an_image": "not an image", "format": "format", "too_large": "too large",
    "undecided": "undecided",
}  # fmt: skip
"""Reasons for a rejection that rule out a thumbnail (broken or too large images), and what stands in its place."""

MAP = "map.parquet"


class Rows(Mapping[int, Any]):
    """Rows of a table as named tuples, by a number of their own; each is made when it is first asked for, few are.

    ``at`` has the place of each row in the table by that number; two of one table share the rows that are ``made``.
    """

    def __init__(self, table: pd.DataFrame, at: dict[int, int], made: dict[int, Any] | None = None) -> None:
        self._named = cast(Any, namedtuple("image", list(table.columns)))
        self._columns = [table[name].array for name in table.columns]
        self._at = at
        self.made: dict[int, Any] = {} if made is None else made

    def __getitem__(self, key: int) -> Any:
        """The row of the number ``key``."""
        at = self._at[key]
        if at not in self.made:
            self.made[at] = self._named(*(value.item() if isinstance(value, np.generic) else value
                                          for value in (column[at] for column in self._columns)))  # fmt: skip
        return self.made[at]

    def __iter__(self) -> Iterator[int]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: object) -> bool:
        return key in self._at


@dataclass(frozen=True)
class Evidence:
    """The tables of one state of the data set.

    ``images``: a row for each image that ever came in.  It has the columns of the verdicts; ``group``, ``split`` and
    ``row`` (in the pack, -1 for none) from the split; and ``shard`` and ``shard_row``, where its bytes lie ("" and -1
    for an image that was withdrawn by hand).
    ``points``: ``row``, ``x`` and ``y`` (0 to 1) of the images on the embedding map; None without a profile.
    ``flags``: ``row`` and ``flag`` of the images that are worth a look, with the ``label`` that may fit better; None
    without a profile.
    """

    images: pd.DataFrame
    refused: pd.DataFrame
    pairs: pd.DataFrame
    decisions: pd.DataFrame
    header: pack.Header
    pixels: Path
    points: pd.DataFrame | None = None
    flags: pd.DataFrame | None = None

    @cached_property
    def kept(self) -> pd.DataFrame:
        """The rows of kept images, which are those in the pack."""
        return self.images[self.images["verdict"] == "kept"]

    @cached_property
    def rows(self) -> Rows:
        """The row of each image as a named tuple, by arrival: look-ups in a DataFrame are slow."""
        return Rows(self.images, {arrival: at for at, arrival in enumerate(self.images["arrival"].tolist())})

    @cached_property
    def by_row(self) -> Rows:
        """The same of the images in the pack, by their row there."""
        found = {row: at for at, row in enumerate(self.images["row"].tolist()) if row >= 0}
        return Rows(self.images, found, self.rows.made)

    @cached_property
    def tied(self) -> pd.DataFrame:
        """The pairs with the splits of both ends, ``split_a`` and ``split_b``."""
        split = self.images["split"]
        return self.pairs.assign(split_a=self.pairs["a"].map(split), split_b=self.pairs["b"].map(split))

    @cached_property
    def between(self) -> dict[tuple[int, int], Any]:
        """The pairs by the arrivals of both ends, the earlier one first."""
        return {(pair.a, pair.b): pair for pair in self.pairs.itertuples(index=False)}

    @cached_property
    def bits(self) -> int:
        """Bits of a perceptual hash; 256 when no image has one."""
        known = self.images["phash"].dropna()
        return 4 * len(known.iloc[0]) if len(known) else 256

    @cached_property
    def rejected_share(self) -> float:
        """The share, 0..1, of what came in that was rejected or not imported."""
        rejected = self.images[self.images["verdict"] == "rejected"]
        columns = rejected[["verdict", "reason"]].to_dict("records"), self.refused[["reason"]].to_dict("records")
        return manifest.rejected_share(len(self.kept), len(manifest.left_out(*columns)))

    @cached_property
    def fits(self) -> dict[int, str]:
        """The label that may fit better than its own, by row of the pack."""
        found = self.flags[self.flags["label"].notna()] if self.flags is not None else None
        return {} if found is None else dict(zip(found["row"], found["label"], strict=True))

    @property
    def leaks(self) -> int:
        """How many pairs of similar images lie in two different splits of train, val and test; should be 0."""
        ends = self.tied[self.tied["split_a"].isin(pack.SPLITS[:3]) & self.tied["split_b"].isin(pack.SPLITS[:3])]
        return int((ends["split_a"] != ends["split_b"]).sum())

    def pack_row(self, row: int) -> Image.Image:
        """Row ``row`` of the pack as a picture, with the pixels that training reads."""
        return self.pack_rows([row])[row]

    def pack_rows(self, rows: Iterable[int]) -> dict[int, Image.Image]:
        """Each of ``rows`` of the pack as a picture, with the pixels that training reads."""
        ordered = sorted(rows)
        pixels = pack.read_rows(self.pixels, self.header, ordered)
        return {row: pack.picture(data, self.header.picture_shape(row))
                for row, data in zip(ordered, pixels, strict=True)}  # fmt: skip


def read(*, raw: Path, verdicts: Path, pixels: Path, splits: Path, profile: Path | None = None) -> Evidence:
    """Join the tables; UserError when they do not belong together."""
    rows = manifest.read(verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean").to_pandas()
    locations = shards.read_index(raw).select(["arrival", "shard", "row"]).to_pandas()
    parts = manifest.read(splits / "splits.parquet", manifest.SPLITS, stage="split").to_pandas()
    if list(locations["arrival"]) != list(rows["arrival"]):
        raise UserError(f"{verdicts}: not the verdicts on the images in {raw}: run stage 'clean' again")
    rows = rows.merge(locations.rename(columns={"row": "shard_row"}), on="arrival", how="left")
    rows = rows.merge(parts[["arrival", "group", "split", "row"]], on="arrival", how="left", suffixes=("_clean", ""))
    # The split's groups, not those of clean: a quarantined image ties two of them and joins neither.
    rows["row"] = rows["row"].fillna(-1).astype(int)
    header = pack.read_header(pixels)
    if len(rows) and int(rows["row"].max()) >= header.rows:
        raise UserError(f"{splits}: rows past the end of {pixels}: run stage 'split' again")
    return Evidence(
        images=rows.set_index("arrival", drop=False).rename_axis(None),
        refused=manifest.read(raw / shards.REFUSED, manifest.REFUSED, stage="collect").to_pandas(),
        pairs=manifest.read(verdicts / "pairs.parquet", manifest.PAIRS, stage="clean").to_pandas(),
        decisions=manifest.read(verdicts / manifest.OUTCOMES, manifest.DECISIONS, stage="clean").to_pandas(),
        header=header,
        pixels=pixels,
        points=None if profile is None else _read_map(profile, header.rows),
        flags=None if profile is None else _read_flags(profile, header.rows),
    )


def _read_map(profile: Path, rows: int) -> pd.DataFrame:
    found = manifest.read(profile / MAP, manifest.MAP, stage="profile").to_pandas()
    if len(found) and not (found["row"].between(0, rows - 1).all() and found[["x", "y"]].stack().between(0, 1).all()):
        raise UserError(f"{profile / MAP}: rows or places that are not of this pack: run stage 'profile' again")
    return found


def _read_flags(profile: Path, rows: int) -> pd.DataFrame:
    found = manifest.read(profile / looks.TABLE, manifest.LOOKS, stage="profile").to_pandas()
    if len(found) and not (found["row"].between(0, rows - 1).all() and found["flag"].isin(looks.FLAGS).all()):
        raise UserError(f"{profile / looks.TABLE}: rows or flags that are not of this pack: run stage 'profile' again")
    return found


class Gallery:
    """Thumbnails of source images.

    They are asked for one by one (:meth:`cell`) and read shard by shard at the end (:meth:`css`).  ``side`` is that of
    a thumbnail in CSS pixels; a large one has twice that.
    """

    def __init__(self, evidence: Evidence, raw: Path, side: int) -> None:
        self._rows, self._raw, self._side = evidence.rows, raw, side
        self._small = Sprites("raw", side, exact=False)
        self._large = Sprites("big", 2 * side, exact=False, shown=2 * side)
        self._wanted: dict[int, set[bool]] = {}
        self.unreadable = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def cell(self, arrival: int, alt: str, *, large: bool = False) -> Safe:
        """The thumbnail of the image with number ``arrival``; an empty frame when it cannot be shown."""
        image = self._rows[arrival]
        why = _unshowable(image)
        if why:
            return blank(self._side * (2 if large else 1), why, alt)
        self._wanted.setdefault(arrival, set()).add(large)
        sprites = self._large if large else self._small
        sprites.reserve(str(arrival))
        return sprites.cell(str(arrival), alt)

    def css(self) -> str:
        """Read and shrink the images asked for; return the style rules that hold their pixels."""
        wanted = [self._rows[arrival] for arrival in sorted(self._wanted)]
        sides = [max(image.width, image.height) for image in wanted if True in self._wanted[image.arrival]]
        # No pixel is stored that the source does not have; the browser enlarges.
        self._large.width = min(self._large.width, int(max(sides, default=self._large.width)))
        locations = [(image.shard, int(image.shard_row)) for image in wanted]
        for position, data in shards.read_bytes(self._raw, locations):
            image = wanted[position]
            picture = self._decoded(data, image)
            for large in self._wanted[image.arrival]:
                sprites = self._large if large else self._small
                sprites.fill(str(image.arrival), _grown(picture, sprites.width) if picture else _crossed(sprites.width))
        return self._small.css() + self._large.css()

    def _decoded(self, data: bytes, image: Any) -> Image.Image | None:
        try:
            # The size that `clean` found is the limit, so that nothing larger is decoded.
            pixels = images.decode(data, image.matte, max_pixels=int(image.width * image.height)).pixels
        except (images.Damaged, ValueError):
            self.unreadable += 1
            return None
        return Image.fromarray(pixels)


def _unshowable(image: Any) -> str:
    """Why ``image`` cannot be shown; "" when it can."""
    if not image.shard:
        return "withdrawn"
    if image.verdict == "rejected" and image.reason in UNSHOWABLE:
        return UNSHOWABLE[image.reason]
    return "" if image.width > 0 and image.height > 0 else "not decoded"


def _grown(picture: Image.Image, side: int) -> Image.Image:
    """Small pictures (icons) enlarged by a whole number, so that their pixels stay pixels."""
    times = side // max(picture.size)
    return (
        picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
        if times > 1
        else picture
    )


def _crossed(side: int) -> Image.Image:
    image = Image.new("RGBA", (side, side), (128, 128, 128, 60))
    draw = ImageDraw.Draw(image)
    draw.line([(0, 0), (side, side)], fill=(128, 128, 128, 255), width=1)
    draw.line([(0, side), (side, 0)], fill=(128, 128, 128, 255), width=1)
    return image
