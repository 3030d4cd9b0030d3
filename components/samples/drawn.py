"""The tables of stage ``evaluate``: a row for each sample, and a row for each held-out image that it is compared with.

Both name the nearest training image: ``rmse`` is the root mean square difference of values in 0..1 (pictures of more
than 64 pixels compared at 64), ``similarity`` the cosine of the features of the same pair.  ``copy`` says that the
distance is at most ``copy_limit``.  ``predicted`` is the label that a classifier of the features gives the image,
missing where there are fewer than two classes.  ``features`` are those that the scores are computed from, float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.samples import manifest

SAMPLES_FILE, HELD_OUT_FILE = "samples.parquet", "held_out.parquet"


def _field(name: str, kind: pa.DataType, missing: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=missing)


def _nearest(what: str) -> list[pa.Field]:
    return [
        _field(f"{what}_row", pa.int64()), _field(f"{what}_sha256", pa.string()), _field(f"{what}_rmse", pa.float64()),
        _field(f"{what}_similarity", pa.float64()),
    ]  # fmt: skip


_JUDGED = [_field("copy_limit", pa.float64()), _field("copy", pa.bool_()), _field("predicted", pa.string(), True)]
_FEATURES = _field("features", pa.list_(_field("element", pa.float32())))
SAMPLES = pa.schema([
    _field("sample", pa.int64()), _field("seed", pa.int64()), _field("class_id", pa.int64()),
    _field("label", pa.string(), True), *_nearest("train"), *_nearest("held_out"), *_JUDGED, _FEATURES,
])  # fmt: skip
HELD_OUT = pa.schema([
    _field("row", pa.int64()), _field("sha256", pa.string()), _field("class_id", pa.int64()),
    _field("label", pa.string(), True), *_nearest("train"), *_JUDGED,
])  # fmt: skip


def write(folder: Path, samples: Mapping[str, Sequence[Any]], held_out: Mapping[str, Sequence[Any]]) -> None:
    """Write both tables, given as columns, into ``folder``: equal columns give equal bytes."""
    for name, columns, schema in ((SAMPLES_FILE, samples, SAMPLES), (HELD_OUT_FILE, held_out, HELD_OUT)):
        manifest.write(folder / name, manifest.table({key: columns[key] for key in schema.names}, schema))


def samples(folder: Path, *, features: bool = False) -> list[dict[str, Any]]:
    """The rows of the samples in ``folder``, without their ``features`` unless asked for; UserError when damaged."""
    return _rows(folder / SAMPLES_FILE, SAMPLES, features)


def held_out(folder: Path) -> list[dict[str, Any]]:
    """The rows of the held-out images in ``folder``; UserError when they are damaged."""
    return _rows(folder / HELD_OUT_FILE, HELD_OUT, True)


def _rows(path: Path, schema: pa.Schema, features: bool) -> list[dict[str, Any]]:
    columns = [name for name in schema.names if features or name != _FEATURES.name]
    found: list[dict[str, Any]] = manifest.read(path, schema, stage="evaluate", columns=columns).to_pylist()
    return found
