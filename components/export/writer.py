"""Exports the kept images: WebDataset shards, Hugging Face Parquet or a plain imagefolder.

Images are called by their SHA-256, never by a name that came from outside.  The same state of the data gives the
same bytes: order of arrival, no clock, no owner.  What is written appears whole or not at all.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.base.events import Progress
from components.decode.picture import Damaged
from components.decode.stripped import stripped
from components.export import formats
from components.html.page import visible
from components.samples import manifest, pack, shards

LAYOUTS = {"webdataset": formats.webdataset, "parquet": formats.parquet, "imagefolder": formats.imagefolder}
_CHUNK_BYTES = 64 * 2**20  # image bytes held in memory at a time
_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}  # by the bytes' real format; others are their own suffix

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What would be written: the rows of each split in order of arrival, and the classes."""

    splits: dict[str, list[Row]]
    classes: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many images."""
        return sum(map(len, self.splits.values()))

    @property
    def bytes(self) -> int:
        """Bytes of the originals."""
        return sum(row["size"] for rows in self.splits.values() for row in rows)


def plan(*, raw: Path, clean: Path, splits: Path, pixels: Path, wanted: Sequence[str]) -> Plan:
    """The kept images of splits ``wanted``, with label, caption and so on."""
    index = shards.read_index(raw).select(["arrival", "shard", "row", "group_key"]).to_pylist()
    rows = manifest.read(clean / "verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()
    assignments = manifest.read(splits / "splits.parquet", manifest.SPLITS, stage="split").to_pylist()
    if [row["arrival"] for row in rows] != [row["arrival"] for row in index]:
        raise UserError(f"{clean}: not the verdicts on the images in {raw}: run `stillroom data report`")
    chosen: dict[str, list[Row]] = {name: [] for name in wanted}
    seen: Counter[str] = Counter()
    for assignment in assignments:
        row = rows[assignment["arrival"]]
        if assignment["row"] < 0 or assignment["split"] not in chosen or row["verdict"] != "kept":
            continue
        held = index[assignment["arrival"]]
        again = f"-{seen[row['sha256']]}" if seen[row["sha256"]] else ""  # the same bytes on another matte
        seen[row["sha256"]] += 1
        suffix = _SUFFIXES.get(row["format"], str(row["format"]).lower())
        chosen[assignment["split"]].append({
            "name": row["sha256"] + again, "suffix": suffix if suffix.isalnum() else "bin", "size": row["size"],
            "sha256": row["sha256"], "split": assignment["split"], "label": row["label"], "text": row["text"],
            "licence": row["licence"], "source": row["source"], "source_key": row["source_key"],
            "group": assignment["group"], "group_key": held["group_key"], "location": (held["shard"], held["row"]),
            "pack_row": assignment["row"],
        })  # fmt: skip
    return Plan(chosen, pack.read_header(pixels).classes)


def export(
    made: Plan, target: Path, *, raw: Path, pixels: Path, layout: str, size: str, overwrite: bool = False
) -> dict[str, int]:
    """Write ``made`` into folder ``target`` (see `check`); images, files and bytes written."""
    check(target, overwrite=overwrite)
    if not made.images:
        raise UserError(f"{', '.join(made.splits)}: no kept image in these splits: name another with --split")
    load = _packed(pixels) if size == "pixels" else _originals(raw, bare=size == "stripped")
    with files.replacing_folder(target) as folder, Progress(made.images, what="export") as progress:

        def images(rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
            for row, data in load(rows):
                yield (row | {"suffix": "png"} if size == "pixels" else row), data
                progress.advance()

        for split, rows in made.splits.items():
            if rows:
                LAYOUTS[layout](folder, split, images(rows), rows, made.classes)
        (folder / "README.md").write_text(formats.card(made.splits, made.classes, layout), "utf-8", newline="\n")
        written = [path for path in folder.rglob("*") if path.is_file()]
        return {"images": made.images, "files": len(written), "bytes": sum(path.stat().st_size for path in written)}


def check(target: Path, *, overwrite: bool) -> None:
    """UserError unless ``target`` is new, an empty folder or, with ``overwrite``, an earlier export."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: not a folder: name a new or an empty one with --to")
    if target.is_dir() and any(target.iterdir()):
        foreign = _foreign(target)
        if not overwrite:
            advice = "or remove it" if foreign else "or add --overwrite to replace this export"
            raise UserError(f"{target}: is not empty: name a new or an empty folder with --to, {advice}")
        if foreign:
            raise UserError(f"{target}: --overwrite replaces an export and nothing else, and {foreign} is of none: "
                            "name a new or an empty folder with --to")  # fmt: skip


def _foreign(folder: Path) -> str:
    """What in ``folder`` no export has written, such as a .git; '' where all of it is one."""
    try:
        exported = formats.TITLE in (folder / "README.md").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        exported = False
    if not exported:
        return "what it holds"
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    return next((visible(name) for name in names if not formats.WRITTEN.fullmatch(name)), "")


def _originals(raw: Path, *, bare: bool) -> Callable[[list[Row]], Iterator[tuple[Row, bytes]]]:
    """The raw bytes in the order of the rows, some tens of MiB at a time; with ``bare`` nothing but their pictures."""

    def load(rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
        chunk: list[Row] = []
        held = 0
        for row in rows:
            chunk.append(row)
            held += row["size"]
            if held >= _CHUNK_BYTES or len(chunk) >= 4096:
                yield from _chunk(raw, chunk, bare)
                chunk, held = [], 0
        yield from _chunk(raw, chunk, bare)

    return load


def _chunk(raw: Path, rows: list[Row], bare: bool) -> Iterator[tuple[Row, bytes]]:
    found = dict(shards.read_bytes(raw, [row["location"] for row in rows]))
    for at, row in enumerate(rows):
        data = found.pop(at)
        yield row, _stripped(data, row) if bare else data


def _stripped(data: bytes, row: Row) -> bytes:
    try:
        return stripped(data)
    except Damaged as damaged:
        raise UserError(
            f"{row['source']}:{row['source_key']}: {damaged.detail}: export with --size pixels, or withdraw it"
        ) from None


def _packed(pixels: Path) -> Callable[[list[Row]], Iterator[tuple[Row, bytes]]]:
    """What training sees, each as a PNG."""
    header = pack.read_header(pixels)

    def load(rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
        packed = pack.read_rows(pixels, header, [row["pack_row"] for row in rows])
        for row, data in zip(rows, packed, strict=True):
            stream = io.BytesIO()
            pack.picture(data, header.picture_shape(row["pack_row"])).save(stream, "PNG")
            yield row, stream.getvalue()

    return load
