"""Pixels as raw uint8 shards with a JSON header: written by the data side, mapped by the training side.

A pack is a folder.  N images in order of arrival, each what ``spec`` (spec.py) says:

    header.json        {"format": 1, "spec", "rows", "classes": [name, ...],
                        "shards": [{"file", "rows", "sha256"}, ...]}, and "side", "channels" of square images:
                        older headers have these two alone
    pixels-00000.u8    rows x height x width x channels bytes, row-major (N, H, W, C)
    classes.i32        N little-endian int32: index into ``classes``, or -1 for an image without a label
    keys.sha256        N x 32 bytes: SHA-256 of each image's source bytes, its name everywhere

A split is a folder of row lists, one file each for train, val, test and quarantine:

    train.i32          little-endian int32 row numbers of the pack, ascending
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base.errors import UserError
from components.samples import spec as specs
from components.samples.spec import SampleSpec

if TYPE_CHECKING:
    from PIL import Image

SHARD_BYTES = 256 * 2**20
SPLITS = ("train", "val", "test", "quarantine")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a pack holds; ``shards`` are (file name, rows) in order."""

    spec: SampleSpec
    rows: int
    classes: tuple[str, ...]
    shards: tuple[tuple[str, int], ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return self.spec.bytes

    def locate(self, row: int) -> tuple[str, int]:
        """The shard that holds ``row``, and the row's number in it."""
        left = row
        for name, rows in self.shards:
            if 0 <= left < rows:
                return name, left
            left -= rows
        raise UserError(f"row {row} is not in the pack, which has {self.rows}: run stage 'resize' again")


def write(
    folder: Path,
    images: Iterable[bytes | memoryview],
    *,
    keys: Sequence[str],
    classes: Sequence[str],
    class_ids: Sequence[int],
    side: int = 0,
    channels: int = 3,
    shape: tuple[int, ...] = (),
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write ``images`` (raw HWC bytes, each object one image or several) and what is known of them into ``folder``.

    They are squares of ``side`` pixels with ``channels``, or have ``shape``, (C, H, W).
    """
    spec = specs.image(shape or (channels, side, side))
    row_bytes, moments = spec.bytes, Moments()
    per_shard = max(1, shard_bytes // row_bytes)
    shards: list[dict[str, Any]] = []
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
                moments.add(rest[: many * row_bytes])
                shards[-1]["rows"] += many
                shards[-1]["sha256"] = digest.hexdigest()
                count, rest = count + many, rest[many * row_bytes :]
    if not count == len(keys) == len(class_ids):
        raise ValueError(f"{count} images, {len(keys)} keys, {len(class_ids)} classes")
    write_int32(folder / "classes.i32", class_ids)
    (folder / "keys.sha256").write_bytes(bytes.fromhex("".join(keys)))
    spec = dataclasses.replace(spec, sigma_data=moments.deviation(spec))
    height, width = spec.shape[1:]
    square = {"side": height, "channels": spec.shape[0]} if height == width else {}
    header = {"format": 1, **square, "spec": spec.plain(), "rows": count, "classes": list(classes), "shards": shards}
    (folder / "header.json").write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_header(folder: Path) -> Header:
    """The header of the pack in ``folder``, its shards' sizes checked."""
    path = folder / "header.json"
    try:
        raw = json.loads(path.read_text("utf-8"))
        header = Header(
            spec=_spec(raw), rows=raw["rows"], classes=tuple(raw["classes"]),
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
            file, number = header.locate(row)
            if file != opened:
                stack.close()
                stream, opened = stack.enter_context((folder / file).open("rb")), file
            stream.seek(number * header.row_bytes)
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


def _spec(raw: dict[str, Any]) -> SampleSpec:
    """What the header says of its images; an older one names side and channels alone."""
    return specs.of_plain(raw["spec"]) if "spec" in raw else specs.image((raw["channels"], raw["side"], raw["side"]))


class Moments:
    """How often each byte occurs, for the standard deviation of values in whole numbers: exact in any order."""

    def __init__(self) -> None:
        self._counts = [0] * 256

    def add(self, blob: memoryview) -> None:
        """Count the bytes of ``blob``."""
        import numpy as np  # readers of packs need none

        for at in range(0, len(blob), 2**22):
            found = np.bincount(np.frombuffer(blob[at : at + 2**22], np.uint8), minlength=256).tolist()
            self._counts = [one + other for one, other in zip(self._counts, found, strict=True)]

    def deviation(self, spec: SampleSpec) -> float:
        """The standard deviation of the values, four digits; ASSUMED where all are the same."""
        count = sum(self._counts)
        first = sum(value * often for value, often in enumerate(self._counts))
        second = sum(value**2 * often for value, often in enumerate(self._counts))
        spread = count * second - first**2
        return float(f"{abs(spec.scale) * spread**0.5 / count:.4g}") if spread else specs.ASSUMED


def read_keys(folder: Path) -> list[str]:
    """The SHA-256 of every image's source bytes, in row order."""
    blob = (folder / "keys.sha256").read_bytes()
    return [blob[at : at + 32].hex() for at in range(0, len(blob), 32)]


def read_classes(folder: Path) -> array.array[int]:
    """The class of every row, -1 for none."""
    return read_int32(folder / "classes.i32")


def read_split(folder: Path, name: str) -> array.array[int]:
    """The row numbers of split ``name``: train, val, test or quarantine."""
    return read_int32(folder / f"{name}.i32")


def write_int32(path: Path, numbers: Iterable[int]) -> None:
    """Write ``numbers`` as little-endian int32."""
    values: array.array[int] = array.array("i", numbers)
    if sys.byteorder == "big":
        values.byteswap()
    path.write_bytes(values.tobytes())


def read_int32(path: Path) -> array.array[int]:
    """Read little-endian int32 numbers."""
    values: array.array[int] = array.array("i")
    values.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    return values
