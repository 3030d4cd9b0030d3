"""Samples as raw shards with a JSON header: written by the data side, mapped by the training side.

A pack is a folder.  N samples in order of arrival, each what ``spec`` (spec.py) says:

    header.json        {"format": 1 of images as bytes, 2 of all others, 3 of several shapes, "spec", "rows",
                        "classes": [name, ...], "shards": [{"file", "rows", "sha256"}, ...]}, and "side", "channels" of
                        square images as bytes: older headers have these two alone
    pixels-00000.u8    the numbers of its rows, row-major with the channels last: (N, H, W, C) of images.  The suffix
                       is the dtype: bytes (u8), or little-endian IEEE 754 numbers of 16 or 32 bits (f16, f32)
    classes.i32        N little-endian int32: index into ``classes``, or -1 for a sample without a label
    keys.sha256        N x 32 bytes: SHA-256 of each sample's source bytes, its name everywhere

Images as bytes may have several shapes (buckets).  Then the header has "shapes": [[C, H, W], ...], and each shard its
"shape", a place in that list.  The shards of a shape hold the rows of that shape in order of arrival; rows are numbered
as in any pack.  "spec" has one of the shapes, the squarest, and the sigma_data of all.

    buckets.i32        N little-endian int32: place of each row's shape in "shapes"

A split is a folder of row lists, one file each for train, val, test and quarantine:

    train.i32          little-endian int32 row numbers of the pack, ascending
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import json
import mmap
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base.errors import UserError, brief
from components.samples import moments
from components.samples import spec as specs
from components.samples.spec import SampleSpec

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 3
SHARD_BYTES = 256 * 2**20
SPLITS = ("train", "val", "test", "quarantine")

BUCKETS, KEYS = "buckets.i32", "keys.sha256"

_SHARD = re.compile(r"pixels-[0-9]{5,}")

Shape = tuple[int, ...]
Blobs = Iterable[bytes | memoryview]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a pack holds; ``shards`` are (file name, rows) in order."""

    spec: SampleSpec
    """Its shape is the usual one: of several the squarest."""
    rows: int
    classes: tuple[str, ...]
    shards: tuple[tuple[str, int], ...]
    shapes: tuple[Shape, ...]
    """Channels first; of most packs one."""
    shard_shapes: tuple[int, ...]
    """The place in ``shapes`` of each shard's rows."""
    buckets: Sequence[int] = ()
    """The same of each row; empty where there is one shape."""

    def shape(self, row: int) -> Shape:
        """Of one row, channels first."""
        return self.shapes[self.buckets[row]] if self.buckets else self.spec.shape

    def picture_shape(self, row: int) -> tuple[int, int, int]:
        """Height, width and channels of one row; UserError where samples are no images as bytes."""
        return self.spec.shaped(self.shape(row)).picture_shape

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width into which an image of any shape fits; UserError where samples are no images as bytes."""
        sizes = [self.spec.shaped(shape).picture_shape for shape in self.shapes]
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    @property
    def size(self) -> str:
        """Of the images, in words, before "pixels": width × height."""
        usual = self.spec.size
        return usual if len(self.shapes) == 1 else f"{usual} and {len(self.shapes) - 1} other shapes of about as many"

    def locate(self, row: int) -> tuple[str, int]:
        """The shard that holds ``row``, and the row's number in it."""
        if not 0 <= row < self.rows:
            raise UserError(f"row {row} is not in the pack, which has {self.rows}: run stage 'resize' again")
        bucket, left = (self.buckets[row], self.places[row]) if self.buckets else (0, row)
        for (name, rows), shape in zip(self.shards, self.shard_shapes, strict=True):
            if shape == bucket:
                if left < rows:
                    return name, left
                left -= rows
        raise AssertionError("the header was checked")

    @cached_property
    def places(self) -> Sequence[int]:
        """How many rows of its shape come before each row, of a pack of several shapes."""
        seen = [0] * len(self.shapes)
        found = array.array("i", self.buckets)
        for row, bucket in enumerate(self.buckets):
            found[row] = seen[bucket]
            seen[bucket] += 1
        return found


def write(
    folder: Path, samples: Blobs, *, spec: SampleSpec, keys: Sequence[str], classes: Sequence[str],
    class_ids: Sequence[int], shard_bytes: int = SHARD_BYTES,
) -> None:  # fmt: skip
    """Write ``samples`` and what is known of them into ``folder``, with their measured ``sigma_data``.

    Each object holds one sample or several, in the dtype and the ``stored_shape`` of ``spec``, little-endian; the
    ``sigma_data`` of ``spec`` is not read.  UserError when a number is not finite.
    """
    write_shapes(folder, [(spec.shape, samples)], buckets=(), spec=spec, keys=keys, classes=classes,
                 class_ids=class_ids, shard_bytes=shard_bytes)  # fmt: skip


def write_shapes(
    folder: Path, parts: Sequence[tuple[Shape, Blobs]], *, buckets: Sequence[int], spec: SampleSpec,
    keys: Sequence[str], classes: Sequence[str], class_ids: Sequence[int], shard_bytes: int = SHARD_BYTES,
) -> None:  # fmt: skip
    """:func:`write` for samples of several shapes (images as bytes): each of ``parts`` is a shape and its samples.

    Row i is the next one of ``parts[buckets[i]]``; ``spec`` has one of the shapes, the one that is drawn unless another
    is asked for.
    """
    measured, shards, count = moments.of(spec), list[dict[str, Any]](), 0
    for number, (shape, samples) in enumerate(parts):
        row_bytes = spec.shaped(shape).bytes
        made = _write_shards(folder, samples, row_bytes, spec.dtype, len(shards), measured, shard_bytes, count)
        count += sum(shard["rows"] for shard in made)
        shards += [shard | ({"shape": number} if len(parts) > 1 else {}) for shard in made]
    if not count == len(keys) == len(class_ids):
        raise ValueError(f"{count} samples, {len(keys)} keys, {len(class_ids)} classes")
    shapes = {"shapes": [list(shape) for shape, _ in parts]} if len(parts) > 1 else {}
    if shapes:
        write_int32(folder / BUCKETS, buckets)
    write_int32(folder / "classes.i32", class_ids)
    (folder / KEYS).write_bytes(bytes.fromhex("".join(keys)))
    spec = dataclasses.replace(spec, sigma_data=measured.deviation(spec))
    header = {
        **(_format(spec) if not shapes else {"format": 3}),
        "spec": spec.plain(),
        **shapes,
        "rows": count,
        "classes": list(classes),
        "shards": shards,
    }
    (folder / "header.json").write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write_shards(
    folder: Path, samples: Blobs, row_bytes: int, suffix: str, first: int, measured: moments.Moments, shard_bytes: int,
    before: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write the shards of one shape, from number ``first`` on; ``before``: samples of the shapes before it."""
    per_shard = max(1, shard_bytes // row_bytes)
    shards: list[dict[str, Any]] = []
    count, stack = 0, ExitStack()
    with stack:
        for blob in samples:
            rest = memoryview(blob).cast("B")
            if not len(rest) or len(rest) % row_bytes:
                where = f"after sample {before + count} come {len(rest)} bytes"
                raise ValueError(f"{where}, not whole samples of {row_bytes}")
            while len(rest):
                if count % per_shard == 0:
                    stack.close()
                    shards.append({"file": f"pixels-{first + len(shards):05d}.{suffix}", "rows": 0, "sha256": ""})
                    stream = stack.enter_context((folder / shards[-1]["file"]).open("wb"))
                    digest = hashlib.sha256()
                many = min(len(rest) // row_bytes, per_shard - count % per_shard)
                stream.write(rest[: many * row_bytes])
                digest.update(rest[: many * row_bytes])
                measured.add(rest[: many * row_bytes])
                shards[-1]["rows"] += many
                shards[-1]["sha256"] = digest.hexdigest()
                count, rest = count + many, rest[many * row_bytes :]
    return shards


def _format(spec: SampleSpec) -> dict[str, int]:
    """The format's number, the least that says it, so that an older reader refuses what it cannot read."""
    if spec.kind != "image" or spec.dtype != "u8":
        return {"format": 2}
    channels, height, width = spec.shape
    return {"format": 1, **({"side": height, "channels": channels} if height == width else {})}


def read_header(folder: Path) -> Header:
    """The header of the pack in ``folder``, checked, and its shards' sizes; UserError when anything is wrong."""
    path = folder / "header.json"
    try:
        header = _header(json.loads(path.read_text("utf-8")))
        for (name, rows), shape in zip(header.shards, header.shard_shapes, strict=True):
            _check_size(folder / name, rows * header.spec.shaped(header.shapes[shape]).bytes)
        if len(header.shapes) > 1:
            header = dataclasses.replace(header, buckets=_buckets(folder / BUCKETS, header))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not the header of a pack ({brief(error)}): run stage 'resize' again") from None
    return header


def _header(raw: Any) -> Header:
    """What ``raw``, read from JSON, says; ValueError when it is no header."""
    if not isinstance(raw, dict):
        raise ValueError(f"it holds {type(raw).__name__}, wanted an object")
    if missing := {"format", "rows", "classes", "shards"} - raw.keys():
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    specs.known_format(raw["format"], FORMAT)
    shards = raw["shards"]
    if not isinstance(shards, list) or not shards:
        raise ValueError("shards must be a list, and not empty")
    spec = _spec(raw)
    shapes = _shapes(raw, spec)
    found = tuple(_shard(each, spec) for each in shards)
    if len({name for name, _ in found}) < len(found):
        raise ValueError("a shard is there twice")
    rows = _count(raw["rows"], "rows")
    if rows != sum(count for _, count in found):
        raise ValueError(f"rows {rows} must be the sum of the shards' rows, {sum(count for _, count in found)}")
    shard_shapes = tuple(_shard_shape(each, shapes) for each in shards)
    if empty := set(range(len(shapes))) - set(shard_shapes):
        raise ValueError(f"no shard holds shape {min(empty)}")
    return Header(
        spec=spec, rows=rows, classes=specs.names(raw["classes"], "classes"), shards=found, shapes=shapes,
        shard_shapes=shard_shapes,
    )  # fmt: skip


def _shapes(raw: dict[str, Any], spec: SampleSpec) -> tuple[Shape, ...]:
    """The shapes that the header names, of which the spec has one; most name none but that."""
    if "shapes" not in raw and raw["format"] < 3:
        return (spec.shape,)
    listed = raw.get("shapes")
    if raw["format"] < 3 or spec.kind != "image" or spec.dtype != "u8":
        raise ValueError(f"shapes are of format 3 and images as bytes, not {raw['format']}, {spec.kind}, {spec.dtype}")
    if not isinstance(listed, list) or len(listed) < 2 or not all(isinstance(each, list) for each in listed):
        raise ValueError("shapes must be a list of two shapes or more")
    found = tuple(spec.shaped(tuple(each)).shape for each in listed)
    if len(set(found)) < len(found) or {shape[0] for shape in found} != {spec.channels} or spec.shape not in found:
        raise ValueError(f"shapes must be distinct, of {spec.channels} channels, and {spec.shape} one of them")
    return found


def _shard_shape(raw: dict[str, Any], shapes: tuple[Shape, ...]) -> int:
    if len(shapes) == 1:
        return 0
    found = _count(raw.get("shape"), f"shape of {raw['file']}")
    if found >= len(shapes):
        raise ValueError(f"shape {found} of {raw['file']} is not one of the {len(shapes)} in shapes")
    return found


def _buckets(path: Path, header: Header) -> Sequence[int]:
    """The shape of each row, as many of each as its shards hold; ValueError otherwise."""
    found, held = read_int32(path), Counter[int]()
    for (_, rows), shape in zip(header.shards, header.shard_shapes, strict=True):
        held[shape] += rows
    if Counter(found) != held:
        raise ValueError(f"{BUCKETS} does not give each shape as many rows as its shards hold")
    return found


def _shard(raw: Any, spec: SampleSpec) -> tuple[str, int]:
    if not isinstance(raw, dict) or not {"file", "rows"} <= raw.keys():
        raise ValueError("a shard must be an object with file and rows")
    name = raw["file"]
    number, dot, suffix = name.partition(".") if isinstance(name, str) else ("", "", "")
    if not _SHARD.fullmatch(number) or dot + suffix != f".{spec.dtype}":  # a path would lead out of the pack
        raise ValueError(f"the name of a shard of dtype {spec.dtype} is pixels-NNNNN.{spec.dtype}, not {name!r:.40}")
    return name, _count(raw["rows"], f"rows of {name}")


def _count(value: Any, what: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{what} {value!r:.40} must be a whole number, 0 or above")
    return value


def _check_size(path: Path, wanted: int) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing, but the header names it: run stage 'resize' again")
    if (size := path.stat().st_size) != wanted:
        raise UserError(f"{path}: {size} bytes where the header promises {wanted}: run stage 'resize' again")


def read_rows(folder: Path, header: Header, rows: Iterable[int]) -> Iterator[bytes]:
    """The bytes of each of ``rows``, in the order asked for; quickest when they ascend: a shape has one shard open."""
    sizes = {shape: header.spec.shaped(shape).bytes for shape in header.shapes}
    opened: dict[Shape, tuple[str, ExitStack, mmap.mmap]] = {}
    with ExitStack() as every:
        for row in rows:
            (file, number), shape = header.locate(row), header.shape(row)
            if shape not in opened or opened[shape][0] != file:
                if shape in opened:
                    opened[shape][1].close()
                own = every.enter_context(ExitStack())
                stream = own.enter_context((folder / file).open("rb"))
                opened[shape] = file, own, own.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            start = number * sizes[shape]
            yield opened[shape][2][start : start + sizes[shape]]


def read_row(folder: Path, header: Header, row: int) -> bytes:
    """The bytes of one row."""
    return next(read_rows(folder, header, [row]))


def picture(pixels: bytes, shape: tuple[int, ...]) -> Image.Image:
    """An image of ``shape`` (height, width, channels): grey for one or two channels, else RGB of the first three."""
    import numpy as np  # here: training reads packs and loads neither
    from PIL import Image

    array = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Image.fromarray(array[:, :, 0] if shape[2] < 3 else np.ascontiguousarray(array[:, :, :3]))


def _spec(raw: dict[str, Any]) -> SampleSpec:
    """What the header says of its images; an older one names side and channels alone."""
    if "spec" not in raw:
        if missing := {"side", "channels"} - raw.keys():
            raise ValueError(f"it has no spec, and no {', '.join(sorted(missing))}")
        return specs.image((raw["channels"], raw["side"], raw["side"]))
    spec = specs.of_plain(raw["spec"])
    if raw["format"] < (needed := _format(spec)["format"]):
        raise ValueError(f"format {raw['format']} of kind {spec.kind} and dtype {spec.dtype}, which need {needed}")
    for name, sizes in (("side", spec.shape[1:]), ("channels", spec.shape[:1])):
        if name in raw and any(raw[name] != size for size in sizes):
            raise ValueError(f"{name} {raw[name]!r:.40} contradicts the spec's shape {spec.shape}")
    return spec


def read_keys(folder: Path) -> list[str]:
    """The SHA-256 of every image's source bytes, in row order."""
    digits = read_digits(folder)
    return [digits[at : at + 64] for at in range(0, len(digits), 64)]


def read_digits(folder: Path) -> str:
    """The same, one after another."""
    return (folder / KEYS).read_bytes().hex()


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
