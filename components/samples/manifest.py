"""The columns of every table between the data stages, checked when written and when read.

Tables are Parquet, written with fixed options and without pandas' metadata: the same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.base.errors import UserError

Row = Mapping[str, Any]


def _schema(**columns: str) -> pa.Schema:
    """Columns from their types' names; ``?`` at the end says that a value may be missing."""
    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "bytes": pa.binary()}
    return pa.schema(
        [pa.field(name, types[kind.rstrip("?")], nullable=kind.endswith("?")) for name, kind in columns.items()]
    )


_ANNOTATION = {"text": "str?", "label": "str?", "licence": "str"}
SHARD = _schema(sha256="str", bytes="bytes", source="str", source_key="str", **_ANNOTATION)
INDEX = _schema(
    arrival="int", sha256="str", source="str", source_key="str", **_ANNOTATION, group_key="str?", matte="str",
    size="int", shard="str", row="int", member="bool", withdrawn="bool",
)  # fmt: skip
REFUSED = _schema(source="str", source_key="str", reason="str", detail="str")
VERDICTS = _schema(
    arrival="int", sha256="str", source="str", source_key="str", **_ANNOTATION, group_key="str?", matte="str",
    member="bool", size="int", verdict="str", reason="str?", detail="str?", twin="str?", twin_arrival="int?",
    distance="int?", difference="float?", width="int?", height="int?", mode="str?", format="str?", pixel_sha256="str?",
    phash="str?", group="str?", position="bool",
)  # fmt: skip
PAIRS = _schema(
    a="int",
    b="int",
    same="bool",
    how="str",
    orientation="str?",
    distance="int?",
    difference="float?",
    correlation="float?",
    inliers="int?",
)
DECISIONS = _schema(
    sha256="str", arrival="int?", source="str?", source_key="str?", decision="str", before="str?", after="str?",
    reason="str", who="str?", fault="str?",
)  # fmt: skip
"""What curators decided and what came of it: the verdict, or the label, before and after; why it changes nothing."""
OUTCOMES = "decisions.parquet"
"""The table DECISIONS in data/clean."""
KEEPABLE = ("duplicate", "near_duplicate", "too_small")
"""The reasons for which a rule rejects a picture that could be used: a curator may keep it all the same."""
SPLITS = _schema(arrival="int", sha256="str", group="str", split="str", row="int")
MAP = _schema(row="int", x="float", y="float")
LOOKS = _schema(row="int", flag="str", label="str?")
"""The pictures of the pack that are worth a look, why (components/samples/looks.py), and a label that may be right."""


UNREACHED = frozenset((
    "private_address", "unresolved", "unreachable", "tls", "http_4xx", "http_5xx", "rate_limited", "http", "redirect",
    "timeout", "broken", "encoding", "robots", "noai", "not_fetched",
))  # fmt: skip
"""Why an address of a list gave nothing that could be looked at: no image of it came in, good or bad."""


def left_out(verdicts: Iterable[Row], refused: Iterable[Row]) -> list[Row]:
    """The rows of what came in and is not used: rejected by clean, or refused by collect, so that it was not imported.

    What somebody withdrew by hand did not come in, nor did what is refused because it shows the same, nor what an
    address did not give, nor the images of a set that is only compared with.
    """
    rows = [*(row for row in verdicts if row["verdict"] == "rejected"), *refused]
    return [row for row in rows if row["reason"] not in UNREACHED and row["reason"] not in ("withdrawn", "against")]


def rejected_share(kept: int, left: int) -> float:
    """The share, 0..1, of what came in that is not used: ``left`` images and files were left out."""
    return left / (kept + left) if kept + left else 0.0


def words(reason: object) -> str:
    """A reason as it is read."""
    return str(reason).replace("_", " ")


def judged(verdict: object, reason: object) -> str:
    """A verdict with its reason: ``rejected (near duplicate)``."""
    return f"{verdict} ({words(reason)})" if reason else str(verdict)


def table(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """``columns`` as a table of exactly ``schema``."""
    if list(columns) != schema.names:
        raise ValueError(f"columns {list(columns)}, wanted {schema.names}")
    made = pa.table({name: _column(values, schema.field(name).type) for name, values in columns.items()}, schema)
    made.validate()
    for field in schema:
        if not field.nullable and made[field.name].null_count:
            raise ValueError(f"column {field.name} has missing values")
    return made


def _column(values: Sequence[Any] | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):  # pa.array would make an object of each value first
        return values.cast(kind)
    return pa.array(values, kind)


def rows(records: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """``records``, one mapping a row, as a table of exactly ``schema``."""
    return table({name: [record[name] for record in records] for name in schema.names}, schema)


def write(path: Path, made: pa.Table) -> None:
    """Write ``made`` to ``path``: one place decides the options, so that equal tables are equal files."""
    with writer(path, made.schema) as stream:
        stream.write_table(made, row_group_size=64 * 1024)


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with this project's options."""
    packed = [field.name for field in schema if field.type == pa.binary()]
    return pq.ParquetWriter(
        path, schema, version="2.6", data_page_version="1.0",
        # Images are packed already; and statistics of a column of images would be images.
        compression={field.name: "NONE" if field.name in packed else "ZSTD" for field in schema},
        use_dictionary=[name for name in schema.names if name not in packed and "sha256" not in name],
        write_statistics=[name for name in schema.names if name not in packed],
    )  # fmt: skip


def read(path: Path, schema: pa.Schema, *, stage: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table at ``path``; UserError when it is not of ``schema``, with ``stage`` being who writes it."""
    try:
        found = pq.read_schema(path)
        if found.remove_metadata() != schema:
            raise ValueError(f"columns {', '.join(found.names)}, wanted {', '.join(schema.names)}")
        with pq.ParquetFile(path) as file:  # read_table would import pyarrow.dataset first, for 0.3 s
            return file.read(columns=columns, use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{path}: not the table of stage '{stage}' ({line}): run it again, or `dvc checkout`") from None


def read_any(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """``columns`` of the rows at ``path``, whichever version wrote them: None for a column that is not there."""
    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            rows = file.read(columns=[name for name in columns if name in there], use_threads=False).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{path}: not there: `stillroom data report` makes it, `dvc pull` fetches it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({line}): `dvc checkout` brings it back") from None
    missing = dict.fromkeys(name for name in columns if name not in there)
    return [{**row, **missing} for row in rows]
