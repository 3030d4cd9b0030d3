"""Pixels as raw uint8 shards with a JSON header: written by the data side, mapped by the training side.

A pack is a folder.  N images in order of arrival, ``side`` pixels square, ``channels`` bytes a pixel:

    header.json        {"format": 1, "side", "channels", "rows", "classes": [name, ...],
                        "shards": [{"file", "rows", "sha256"}, ...]}
    pixels-00000.u8    rows x side x side x channels bytes, row-major (N, H, W, C)
    classes.i32        N little-endian int32: index into ``classes``, or -1 for an image without a label
    keys.sha256        N x 32 bytes: SHA-256 of each image's source bytes, its name everywhere

A split is a folder of row lists, one file each for train, val, test and quarantine:

    train.i32          little-endian int32 row numbers of the pack, ascending
"""

from __future__ import annotations

import array
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.base.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SHARD_BYTES = 256 * 2**20
SPLITS = ("train", "val", "test", "quarantine")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a pack holds; ``shards`` are (file name, rows) in order."""

    side: int
    channels: int
    rows: int
    classes: tuple[str, ...]
    shards: tuple[tuple[str, int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, channels first: (C, H, W)."""
        return self.channels, self.side, self.side

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return self.side * self.side * self.channels

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Of one image as its bytes lie in the pack, channels last: (H, W, C)."""
        return self.side, self.side, self.channels

    def place(self, row: int) -> tuple[str, int]:
        """The shard that holds ``row``, and the row's number in it."""
        left = row
        for name, rows in self.shards:
            if 0 <= left < rows:
                return name, left
            left -= rows
        raise UserError(f"row {row} is not in the pack, which has {self.rows}: run stage 'resize' again")


def write(
    folder: Path,
    images: Iterable[bytes],
    *,
    keys: Sequence[str],
    classes: Sequence[str],
    class_ids: Sequence[int],
    side: int,
    channels: int = 3,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write ``images`` (raw HWC bytes, each object one image or several) and what is known of them into ``folder``."""
    row_bytes = side * side * channels
    per_shard = max(1, shard_bytes // row_bytes)
    shards: list[dict] = []
    count, stack = 0, ExitStack()
    with stack:
        for blob in images:
            rest = memoryview(blob).cast("B")
            if not len(rest) or len(rest) % row_bytes:
                raise ValueError(f"after image {count} come {len(rest)} bytes, not whole images of {row_bytes}")
            while len(rest):
                if count % per_shard == 0:
                    stack.close()
                    shards.append({"file": f"pixels-{len(shards):05d}.u8", "rows": 0, "sha256": ""})
                    stream = stack.enter_context((folder / shards[-1]["file"]).open("wb"))
                    digest = hashlib.sha256()
                many = min(len(rest) // row_bytes, per_shard - count % per_shard)
                stream.write(rest[: many * row_bytes])
                digest.update(rest[: many * row_bytes])
                shards[-1]["rows"] += many
                shards[-1]["sha256"] = digest.hexdigest()
                count, rest = count + many, rest[many * row_bytes :]
    if not count == len(keys) == len(class_ids):
        raise ValueError(f"{count} images, {len(keys)} keys, {len(class_ids)} classes")
    write_int32(folder / "classes.i32", class_ids)
    (folder / "keys.sha256").write_bytes(bytes.fromhex("".join(keys)))
    header = {"format": 1, "side": side, "channels": channels, "rows": count,
              "classes": list(classes), "shards": shards}  # fmt: skip
    (folder / "header.json").write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_header(folder: Path) -> Header:
    """The header of the pack in ``folder``, its shards' sizes checked."""
    path = folder / "header.json"
    try:
        raw = json.loads(path.read_text("utf-8"))
        header = Header(
            side=raw["side"], channels=raw["channels"], rows=raw["rows"], classes=tuple(raw["classes"]),
            shards=tuple((shard["file"], shard["rows"]) for shard in raw["shards"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the header of a pack ({error}): run stage 'resize' again") from None
    for name, rows in header.shards:
        size = (folder / name).stat().st_size
        if size != rows * header.row_bytes:
            raise UserError(
                f"{folder / name}: {size} bytes where the header promises {rows * header.row_bytes}: "
                "run stage 'resize' again"
            )
    return header


def read_rows(folder: Path, header: Header, rows: Iterable[int]) -> Iterator[bytes]:
    """The pixels of each of ``rows``, in the order asked for; quickest when they ascend, as one shard is open."""
    with ExitStack() as stack:
        opened = ""
        for row in rows:
            file, place = header.place(row)
            if file != opened:
                stack.close()
                stream, opened = stack.enter_context((folder / file).open("rb")), file
            stream.seek(place * header.row_bytes)
            yield stream.read(header.row_bytes)


def read_row(folder: Path, header: Header, row: int) -> bytes:
    """The pixels of one row."""
    return next(read_rows(folder, header, [row]))


def picture(pixels: bytes, shape: tuple[int, ...]) -> Image.Image:
    """An image of ``shape`` (height, width, channels): grey for one or two channels, else RGB of the first three."""
    import numpy as np  # here: training reads packs and loads neither
    from PIL import Image

    array = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Image.fromarray(array[:, :, 0] if shape[2] < 3 else np.ascontiguousarray(array[:, :, :3]))


def read_keys(folder: Path) -> list[str]:
    """The SHA-256 of every image's source bytes, in row order."""
    blob = (folder / "keys.sha256").read_bytes()
    return [blob[at : at + 32].hex() for at in range(0, len(blob), 32)]


def read_classes(folder: Path) -> array.array:
    """The class of every row, -1 for none."""
    return read_int32(folder / "classes.i32")


def read_split(folder: Path, name: str) -> array.array:
    """The row numbers of split ``name``: train, val, test or quarantine."""
    return read_int32(folder / f"{name}.i32")


def write_int32(path: Path, numbers: Iterable[int]) -> None:
    """Write ``numbers`` as little-endian int32."""
    values = array.array("i", numbers)
    if sys.byteorder == "big":
        values.byteswap()
    path.write_bytes(values.tobytes())


def read_int32(path: Path) -> array.array:
    """Read little-endian int32 numbers."""
    values = array.array("i")
    values.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    return values
