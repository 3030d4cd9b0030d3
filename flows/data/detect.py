"""Source detection: the kind of a source, from its name and its first members."""

from __future__ import annotations

import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from components.collect.sources.source import IMAGE_SUFFIXES

_LISTS = (".txt", ".csv", ".jsonl")
_SIDE_FILES = (".json", ".txt", ".cls")  # what stands beside an image in a WebDataset
_PEEK = 64  # members of a tar, files of a folder
_STEP_BYTES = 8 * 2**20  # a member larger than this ends the peek


def kind(root: Path, location: str) -> tuple[str, str]:
    """files, urls, parquet or webdataset, and why."""
    name = urlsplit(location).path if "://" in location else location
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _LISTS:
        return "urls", f"a {suffix} is a list of addresses"
    if suffix == ".parquet":
        columns = _columns(root / location)
        if columns and not any(map(_holds_images, columns.values())):
            return "urls", "a .parquet without a column of bytes is a list of addresses"
        return "parquet", "a .parquet with images in it"
    path = root / location
    if suffix == ".tar" and path.is_file() and _is_webdataset(path):
        return "webdataset", "its members stand beside each other by name"
    if "://" not in location and path.is_dir():
        return _of_folder(path)
    return "files", "a folder or an archive of images"


def image_column(root: Path, location: str) -> str | None:
    """The first column of a Parquet file that can hold images; None when there is none or it cannot be read."""
    path = root / location
    if path.is_dir():
        path = min(path.rglob("*.parquet"), default=path)
    columns = _columns(path)
    return next((name for name, type_ in columns.items() if _holds_images(type_)), None)


def _of_folder(folder: Path) -> tuple[str, str]:
    suffixes = [Path(name).suffix.lower() for name in itertools.islice(_names(folder), _PEEK)]
    if not any(suffix in IMAGE_SUFFIXES for suffix in suffixes):
        if ".parquet" in suffixes:
            return "parquet", "a folder of .parquet"
        if ".tar" in suffixes:
            return "webdataset", "a folder of .tar"
    return "files", "a folder of images"


def _names(folder: Path) -> Iterator[str]:
    """The names of the files below ``folder``, sorted in each folder: the order of the disk must decide no kind."""
    for _, folders, names in os.walk(folder):
        folders.sort()
        yield from sorted(names)


def _is_webdataset(path: Path) -> bool:
    """Whether the first members hold an image beside its caption or label file."""
    seen: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for _, member in zip(range(_PEEK), archive, strict=False):
                if member.size > _STEP_BYTES:
                    break
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                seen.setdefault(f"{folder}/{stem}", set()).add(f".{suffix.lower()}")
    except (tarfile.TarError, OSError, ValueError):
        return False
    return any(found & set(IMAGE_SUFFIXES) and found & set(_SIDE_FILES) for found in seen.values())


def _columns(path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return {field.name: field.type for field in schema}


def _holds_images(type_: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return any(field.name == "bytes" for field in type_)
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)
