"""The layouts that `stillroom data export` writes, each as its readers want it.

- WebDataset: ``train-00000.tar`` ...; one sample is ``SHA256.jpg``, ``.json`` (everything known) and, when there is
  one, ``.txt`` (caption) and ``.cls`` (number of the label, see classes in README.md).
- Parquet: ``data/train-00000-of-00001.parquet`` with Hugging Face's features in the schema: ``image`` is an image,
  ``label`` a ClassLabel.  A reader without `datasets` sees struct{bytes, path} and a number.
- Imagefolder: ``train/LABEL/SHA256.jpg`` and ``train/metadata.csv``; images without a label lie in ``train`` itself.
  torchvision's ``ImageFolder`` of one split finds the labels as its classes; `datasets` reads them as text
  (``.class_encode_column("label")`` numbers them).
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
Images = Iterator[tuple[Row, bytes]]

COLUMNS = ("label", "text", "licence", "source", "source_key", "group", "group_key", "sha256", "split")
"""What is exported with each image, in this order."""
TITLE = "# Images exported from Stillroom"
"""A line of the README.md of every export, by which one is known."""
WRITTEN = re.compile(
    r"README\.md|data/\w+-\d{5}-of-\d{5}\.parquet|\w+-\d{5}\.tar|\w+/metadata\.csv"
    r"|\w+/([^/]+/)?[0-9a-f]{64}(-\d+)?\.\w+"
)
"""The files of an export, below its folder."""
SHARD_BYTES = 256 * 2**20  # image bytes after which the next file begins
_LONGEST = 200  # bytes of a folder's name, of the 255 that file systems take
_GROUP_BYTES = 16 * 2**20  # image bytes of a row group, so that a reader can take few


def webdataset(folder: Path, split: str, images: Images, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Tar shards of one split."""
    ids = {label: at for at, label in enumerate(classes)}
    for number, part in _parts(images, rows):
        # No clock, no owner, mode 0644: the same images are the same bytes.
        with tarfile.open(folder / f"{split}-{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for row, data in part:
                record = json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False, sort_keys=True)
                members = {row["suffix"]: data, "json": record.encode()}
                if row["label"] is not None:
                    members["cls"] = str(ids[row["label"]]).encode()
                if row["text"] is not None:
                    members["txt"] = row["text"].encode()
                for suffix in sorted(members):
                    member = tarfile.TarInfo(f"{row['name']}.{suffix}")
                    member.size = len(members[suffix])
                    archive.addfile(member, io.BytesIO(members[suffix]))


def parquet(folder: Path, split: str, images: Images, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Parquet files of one split."""
    (folder / "data").mkdir(exist_ok=True)
    schema, ids = _schema(classes), {label: at for at, label in enumerate(classes)}
    total = 1 + _file_numbers(rows)[-1]
    for number, part in _parts(images, rows):
        path = folder / "data" / f"{split}-{number:05d}-of-{total:05d}.parquet"
        with pq.ParquetWriter(
            path, schema, compression=dict.fromkeys(COLUMNS, "ZSTD"), version="2.6", write_statistics=list(COLUMNS),
            use_dictionary=["licence", "source", "split"],
        ) as writer:  # fmt: skip
            waiting: list[Row] = []
            held = 0
            for row, data in part:
                waiting.append({**{name: row[name] for name in COLUMNS}, "label": ids.get(row["label"]),
                                "image": {"bytes": data, "path": f"{row['name']}.{row['suffix']}"}})  # fmt: skip
                held += len(data)
                if held >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_pylist(waiting, schema))
                    waiting, held = [], 0
            writer.write_table(pa.Table.from_pylist(waiting, schema))


def imagefolder(folder: Path, split: str, images: Images, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """A folder of one split with one for each label in it, and its metadata.csv."""
    (folder / split).mkdir()
    folders = label_folders(classes)
    for name in sorted({folders[row["label"]] for row in rows if row["label"] is not None}):
        (folder / split / name).mkdir()
    with (folder / split / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        columns = [name for name in COLUMNS if name != "split"]
        table.writerow(["file_name", *columns])
        for row, data in images:
            within = f"{folders[row['label']]}/" if row["label"] is not None else ""
            name = f"{within}{row['name']}.{row['suffix']}"
            handle = os.open(folder / split / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(handle, "wb") as image:
                image.write(data)
            table.writerow([name, *("" if row[key] is None else row[key] for key in columns)])


def label_folders(labels: Sequence[str]) -> dict[str, str]:
    """The name of a folder for each label: letters and digits stay, what a file system may trip over becomes %XX.

    No two are the same, whether or not the file system tells capital letters from small ones.
    """
    found = {label: _file_name(label) for label in labels}
    often = Counter(name.casefold() for name in found.values())
    return {label: name if often[name.casefold()] == 1 else f"{name}-{_digest(label)}" for label, name in found.items()}


def _file_name(label: str) -> str:
    kept = "".join(c if c.isalnum() or c in " -_" else _escaped(c) for c in label).strip(" ") or _escaped(label)
    return kept if len(kept.encode()) <= _LONGEST else f"{kept[: _LONGEST // 4]}-{_digest(label)}"


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def card(splits: Mapping[str, Sequence[Row]], classes: Sequence[str], layout: str) -> str:
    """README.md: how many images, their sources, licences and classes; Hugging Face reads its first lines."""
    rows = [row for each in splits.values() for row in each]
    sources = Counter((row["source"], row["licence"]) for row in rows)
    head = {"license": "other", "tags": ["stillroom"]}
    lines = [
        "---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---", "",
        TITLE, "",
        f"{len(rows)} images as {layout}; names are the SHA-256 of the original files.", "",
        "| split | images |", "|---|---|", *(f"| {name} | {len(each)} |" for name, each in splits.items()), "",
        "| source | licence | images |", "|---|---|---|",
        *(f"| {_cell(name)} | {_cell(licence)} | {count} |" for (name, licence), count in sorted(sources.items())), "",
        "Classes, by number:", "", "```json", json.dumps(list(classes), ensure_ascii=True, indent=1), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _file_numbers(rows: Sequence[Row]) -> list[int]:
    """Which file each row goes to: a file ends with the image that fills it."""
    numbers, number, written = [], 0, 0
    for row in rows:
        numbers.append(number)
        written += row["size"]
        if written >= SHARD_BYTES:
            number, written = number + 1, 0
    return numbers


def _parts(images: Images, rows: Sequence[Row]) -> Iterator[tuple[int, Images]]:
    """(number, images) of each file; ``images`` come in the order of ``rows``."""
    numbers = _file_numbers(rows)
    counted = enumerate(images)
    for number, part in itertools.groupby(counted, key=lambda each: numbers[each[0]]):
        yield number, (image for _, image in part)


def _schema(classes: Sequence[str]) -> pa.Schema:
    text = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, **dict.fromkeys(COLUMNS, text),
                "label": {"names": list(classes), "_type": "ClassLabel"}}  # fmt: skip
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field("image", image), *(pa.field(name, pa.int64() if name == "label" else pa.string())
                                          for name in COLUMNS)]  # fmt: skip
    info = json.dumps({"info": {"features": features}}, ensure_ascii=True)
    return pa.schema(fields, metadata={"huggingface": info})


def _cell(text: str) -> str:
    """``text`` as one cell of a Markdown table: no markup, no new cell, no new line."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#|!&" else letter for letter in kept)
