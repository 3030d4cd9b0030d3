"""What the data report shows, read from the data states: tables joined by arrival, and pictures on demand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from components import images, manifest, pack, shards
from components.errors import UserError
from components.page import Safe
from components.sprites import Sprites, blank, unpack

UNSHOWABLE = {
    "damaged": "damaged", "not_an_image": "not an image", "format": "format", "too_large": "too large",
    "withdrawn": "withdrawn",
}  # fmt: skip
"""Verdicts whose pictures are never decoded here: they are broken, too big, or gone."""


@dataclass(frozen=True)
class Evidence:
    """The tables of one state of the data set.

    ``images``: a row for each arrival: the verdict's columns, the split's ``group``, ``split`` and ``row`` (of
    the pack, -1 for none), and ``shard`` and ``shard_row`` where its bytes lie.
    """

    images: pd.DataFrame
    refused: pd.DataFrame
    pairs: pd.DataFrame
    header: pack.Header
    pixels: Path

    @cached_property
    def kept(self) -> pd.DataFrame:
        """The rows that the pack holds."""
        return self.images[self.images["verdict"] == "kept"]

    @cached_property
    def tied(self) -> pd.DataFrame:
        """The pairs with the splits of both ends, ``split_a`` and ``split_b``."""
        split = self.images["split"]
        return self.pairs.assign(split_a=self.pairs["a"].map(split), split_b=self.pairs["b"].map(split))

    @property
    def leaks(self) -> int:
        """Pairs that look alike and lie in two different ones of train, val and test."""
        ends = self.tied[self.tied["split_a"].isin(pack.SPLITS[:3]) & self.tied["split_b"].isin(pack.SPLITS[:3])]
        return int((ends["split_a"] != ends["split_b"]).sum())

    def pack_row(self, row: int) -> Image.Image:
        """Row ``row`` of the pack as a picture, just as training reads it."""
        return unpack(self.pixels, self.header, row)


def read(*, raw: Path, verdicts: Path, pixels: Path, splits: Path) -> Evidence:
    """Join the tables; UserError when they do not belong together."""
    rows = manifest.read(verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean").to_pandas()
    places = shards.read_index(raw).select(["arrival", "shard", "row"]).to_pandas()
    parts = manifest.read(splits / "splits.parquet", manifest.SPLITS, stage="split").to_pandas()
    if list(places["arrival"]) != list(rows["arrival"]):
        raise UserError(f"{verdicts}: not the verdicts on the images in {raw}: run stage 'clean' again")
    rows = rows.merge(places.rename(columns={"row": "shard_row"}), on="arrival", how="left")
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
        header=header,
        pixels=pixels,
    )


class Gallery:
    """Thumbnails of source images: asked for one by one, read shard by shard once all are known."""

    def __init__(self, evidence: Evidence, raw: Path, side: int) -> None:
        self._images, self._raw, self._side = evidence.images, raw, side
        self._sprites = Sprites("raw", side, exact=False)
        self._wanted: set[int] = set()
        self.unreadable = 0

    def __len__(self) -> int:
        return len(self._wanted)

    def cell(self, arrival: int, alt: str) -> Safe:
        """The thumbnail of the image that arrived as number ``arrival``; a frame when it cannot be shown."""
        image = self._images.loc[arrival]
        why = image["reason"] if image["verdict"] == "rejected" else image["verdict"]
        if why in UNSHOWABLE:
            return blank(self._side, UNSHOWABLE[why], alt)
        self._wanted.add(arrival)
        self._sprites.reserve(str(arrival))
        return self._sprites.cell(str(arrival), alt)

    def css(self) -> str:
        """Read and shrink what was asked for; the style rules with all of it."""
        wanted = self._images.loc[sorted(self._wanted)]
        places = list(zip(wanted["shard"], wanted["shard_row"].astype(int), strict=True))
        for position, data in shards.read_bytes(self._raw, places):
            image = wanted.iloc[position]
            self._sprites.fill(str(image["arrival"]), self._thumbnail(data, image))
        return self._sprites.css()

    def _thumbnail(self, data: bytes, image: pd.Series) -> Image.Image:
        try:
            # What clean has decoded once is decoded again, and nothing larger.
            pixels = images.decode(data, image["matte"], max_pixels=int(image["width"] * image["height"])).pixels
        except (images.Damaged, ValueError):
            self.unreadable += 1
            return _crossed(self._side)
        shown = Image.fromarray(pixels)
        times = self._side // max(shown.size)
        return (
            shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST) if times > 1 else shown
        )


def _crossed(side: int) -> Image.Image:
    image = Image.new("RGBA", (side, side), (128, 128, 128, 60))
    draw = ImageDraw.Draw(image)
    draw.line([(0, 0), (side, side)], fill=(128, 128, 128, 255), width=1)
    draw.line([(0, side), (side, 0)], fill=(128, 128, 128, 255), width=1)
    return image
