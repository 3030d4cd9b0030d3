"""Decode the kept images once, bring them to one size, and pack them as uint8."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.base import files, parallel
from components.base.errors import UserError
from components.base.events import Progress
from components.resize import buckets, scaling
from components.resize.params import BucketParams, ResizeParams
from components.samples import facts as known
from components.samples import manifest, pack, shards
from components.samples import spec as specs

log = logging.getLogger(__name__)

_CHUNK = 64 * 2**20  # bytes of pictures held in memory at a time, and of a segment of the store


def resize(params: ResizeParams, *, raw: Path, verdicts: Path, pixels: Path, facts: Path) -> dict[str, float]:
    """Bring every kept image to its size and pack them as uint8, in order of arrival."""
    kept = _kept(raw, verdicts)
    names = _names(kept)
    sizes, of_rows = _sizes(kept, params)
    stores = [_store(size, params, facts) for size in sizes]
    _add_missing(kept, names, of_rows, sizes, stores, params, raw)
    labels = kept["label"].combine_chunks()
    classes = sorted(labels.drop_null().unique().to_pylist())
    ids = pc.fill_null(pc.index_in(labels, pa.array(classes, pa.string())), -1).to_numpy()
    parts = [((scaling.CHANNELS, *size), _gathered(names[of_rows == at], store))
             for at, (size, store) in enumerate(zip(sizes, stores, strict=True))]  # fmt: skip
    with files.replacing_folder(pixels) as folder:
        pack.write_shapes(
            folder, parts, buckets=of_rows.tolist(), keys=kept["sha256"].to_pylist(), classes=classes,
            class_ids=ids.tolist(), spec=specs.image((scaling.CHANNELS, *buckets.usual(sizes))),
        )  # fmt: skip
    counts = Counter(of_rows.tolist())
    total = sum(count * sizes[at][0] * sizes[at][1] * scaling.CHANNELS for at, count in counts.items())
    found = {"rows": len(kept), "side": params.side, "bytes": total, "classes": len(classes),
             "unlabelled": labels.null_count}  # fmt: skip
    if not isinstance(params.fit, BucketParams):
        log.info("%d pictures of %d x %d px in %d classes", len(kept), params.side, params.side, len(classes))
        return found
    return found | _told(kept, sizes, of_rows, counts)


def _sizes(kept: pa.Table, params: ResizeParams) -> tuple[list[buckets.Size], np.ndarray]:
    """The sizes (height, width) that pictures are brought to, each that of some, and the place in them of each row."""
    if not isinstance(params.fit, BucketParams):
        return [(params.side, params.side)], np.zeros(len(kept), np.int64)
    known = buckets.shapes(params.side, params.fit)
    found = np.array(buckets.nearest(_own(kept), known), np.int64)
    used, which = np.unique(found, return_inverse=True)
    return [known[at] for at in used.tolist()] or [(params.side, params.side)], which.reshape(-1)


def _own(kept: pa.Table) -> list[buckets.Size]:
    """Height and width of each picture as it came."""
    return list(zip(kept["height"].to_pylist(), kept["width"].to_pylist(), strict=True))


def _told(
    kept: pa.Table, sizes: Sequence[buckets.Size], of_rows: np.ndarray, counts: Counter[int]
) -> dict[str, float]:  # fmt: skip
    """Log what each shape got; the metrics of it: rows by width x height, and the mean share that was cut away."""
    lost = [1 - buckets.kept_share(own, sizes[at]) for own, at in zip(_own(kept), of_rows.tolist(), strict=True)]
    metrics: dict[str, float] = {"cut_away": round(sum(lost) / max(1, len(lost)), 6)}
    for at, (height, width) in enumerate(sizes):
        mine = [share for share, other in zip(lost, of_rows.tolist(), strict=True) if other == at]
        log.info("%d x %d px: %d pictures, %.1f %% of them cut away", width, height, len(mine),
                 100 * sum(mine) / max(1, len(mine)))  # fmt: skip
        metrics[f"rows_{width}x{height}"] = counts[at]
    return metrics


def _kept(raw: Path, verdicts: Path) -> pa.Table:
    """The kept images in order of arrival, with the shard and row of their bytes."""
    rows = manifest.read(
        verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean",
        columns=["arrival", "sha256", "label", "matte", "verdict", "width", "height"],
    )  # fmt: skip
    rows = rows.filter(pc.equal(rows["verdict"], "kept"))
    locations = shards.read_index(raw).select(["sha256", "shard", "row"])
    if len(rows) and pc.max(rows["arrival"]).as_py() >= len(locations):
        raise UserError(f"{verdicts}: is of another data/raw: run stage 'clean' again")
    locations = locations.take(rows["arrival"])
    if not locations["sha256"].combine_chunks().equals(rows["sha256"].combine_chunks()):
        raise UserError(f"{verdicts}: is of another data/raw: run stage 'clean' again")
    return rows.append_column("shard", locations["shard"]).append_column("row", locations["row"])


def _names(kept: pa.Table) -> np.ndarray:
    """What each picture is called in the store: by its bytes and by the matte it lies on."""
    pairs = pc.binary_join_element_wise(kept["sha256"], kept["matte"], "|")  # facts.key of each, all at once
    return known.keys([sha256(pair).digest() for pair in pairs.cast(pa.binary()).to_pylist()])


def _store(size: buckets.Size, params: ResizeParams, facts: Path) -> known.Store:
    height, width = size
    kind = np.dtype([("pixels", "u1", (height * width * scaling.CHANNELS,))])
    # A square shape among others holds what crop makes, so that either finds what the other made.
    sides = {"side": height} if height == width else {"height": height, "width": width}
    rule = known.rule({**sides, "fit": _fit(params)}, algorithms=[scaling.ALGORITHM], dtype=kind)
    return known.Store(facts, "picture", rule, kind)


def _fit(params: ResizeParams) -> str:
    return "crop" if isinstance(params.fit, BucketParams) else params.fit


def _add_missing(
    kept: pa.Table, names: np.ndarray, of_rows: np.ndarray, sizes: Sequence[buckets.Size],
    stores: Sequence[known.Store], params: ResizeParams, raw: Path,
) -> None:  # fmt: skip
    """Compute the pictures that the stores lack, shard by shard, and keep them there."""
    absent = np.zeros(len(kept), bool)
    for at, store in enumerate(stores):
        mine = np.flatnonzero(of_rows == at)
        absent[mine] = store.find(names[mine]) < 0
    missing = np.flatnonzero(absent)
    missing = missing[np.sort(np.unique(names[missing].view("S32"), return_index=True)[1])]
    if not len(missing):
        return
    new = kept.take(missing)
    large = pc.max(pc.multiply(new["width"], new["height"])).as_py() > scaling.LARGE
    locations = list(zip(new["shard"].to_pylist(), new["row"].to_pylist(), strict=True))
    mattes, chosen = new["matte"].to_pylist(), of_rows[missing]
    order: list[int] = []

    def load() -> Iterator[tuple[bytes, tuple[str, buckets.Size]]]:
        for at, data in shards.read_bytes(raw, locations):
            order.append(at)
            yield data, (mattes[at], sizes[chosen[at]])

    preload = scaling.TORCH if large else ()
    waiting: list[bytes] = []
    done = held = 0

    def keep() -> None:
        nonlocal done, waiting, held
        here = np.array(order[done : done + len(waiting)], np.int64)
        for bucket, store in enumerate(stores):
            if len(some := np.flatnonzero(chosen[here] == bucket)):
                records = np.frombuffer(b"".join(waiting[at] for at in some), np.uint8).view(store.dtype)
                store.add(names[missing[here[some]]], records)
        done, waiting, held = done + len(waiting), [], 0

    with Progress(len(new), what="resize") as progress:
        work = partial(scaling.scale_each, fit=_fit(params))
        for pictures in parallel.ordered(work, parallel.batched(load()), preload=preload):
            waiting += pictures
            held += sum(len(picture) for picture in pictures)
            if held >= _CHUNK:
                keep()
            progress.advance(len(pictures))
        keep()


def _gathered(names: np.ndarray, store: known.Store) -> Iterator[memoryview]:
    """The pictures called ``names``, in that order, many at a time."""
    at = store.find(names)
    if (at < 0).any():
        raise RuntimeError("a picture is not where it was put a moment ago")
    for records in store.stream(at, max(1, _CHUNK // store.dtype.itemsize)):
        yield records.view(np.uint8).data
