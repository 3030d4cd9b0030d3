"""The tables of stage ``evaluate``: a row for each sample, and a row for each held-out image that it is compared with.

Both name the nearest training image: ``rmse`` is the root mean square difference of values in 0..1 (pictures of more
than 64 pixels compared at 64), ``similarity`` the cosine of the features of the same pair.  ``copy`` says that the
distance is at most ``copy_limit``.  ``predicted`` is the label that a classifier of the features gives the image,
missing where there are fewer than two classes.  ``features`` are those that the scores are computed from, float32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLES_FILE, HELD_OUT_FILE = "samples.parquet", "held_out.parquet"
_FEATURES = "features"


@functools.cache
def schemas() -> tuple[pa.Schema, pa.Schema]:
    """Of the table of samples and of that of held-out images."""
    import pyarrow as pa  # here: a machine that measures and trains without writing tables needs none

    def field(name: str, kind: pa.DataType, missing: bool = False) -> pa.Field:
        return pa.field(name, kind, nullable=missing)

    def nearest(what: str) -> list[pa.Field]:
        return [
            field(f"{what}_row", pa.int64()), field(f"{what}_sha256", pa.string()),
            field(f"{what}_rmse", pa.float64()), field(f"{what}_similarity", pa.float64()),
        ]  # fmt: skip

    labelled = [field("class_id", pa.int64()), field("label", pa.string(), True)]
    judged = [field("copy_limit", pa.float64()), field("copy", pa.bool_()), field("predicted", pa.string(), True)]
    features = field(_FEATURES, pa.list_(field("element", pa.float32())))
    return pa.schema([
        field("sample", pa.int64()), field("seed", pa.int64()), *labelled, *nearest("train"), *nearest("held_out"),
        *judged, features,
    ]), pa.schema([
        field("row", pa.int64()), field("sha256", pa.string()), *labelled, *nearest("train"), *judged,
    ])  # fmt: skip


def write(folder: Path, samples: Mapping[str, Sequence[Any]], held_out: Mapping[str, Sequence[Any]]) -> None:
    """Write both tables, given as columns, into ``folder``: equal columns give equal bytes."""
    from components.samples import manifest

    for name, columns, schema in zip((SAMPLES_FILE, HELD_OUT_FILE), (samples, held_out), schemas(), strict=True):
        manifest.write(folder / name, manifest.table({key: columns[key] for key in schema.names}, schema))


def samples(folder: Path, *, features: bool = False) -> list[dict[str, Any]]:
    """The rows of the samples in ``folder``, without their ``features`` unless asked for; UserError when damaged."""
    return _rows(folder / SAMPLES_FILE, schemas()[0], features)


def held_out(folder: Path) -> list[dict[str, Any]]:
    """The rows of the held-out images in ``folder``; UserError when they are damaged."""
    return _rows(folder / HELD_OUT_FILE, schemas()[1], True)


def _rows(path: Path, schema: pa.Schema, features: bool) -> list[dict[str, Any]]:
    from components.samples import manifest

    columns = [name for name in schema.names if features or name != _FEATURES]
    found: list[dict[str, Any]] = manifest.read(path, schema, stage="evaluate", columns=columns).to_pylist()
    return found
