"""Decode the kept images once, bring them to one size, and pack them as uint8."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.base import files, parallel
from components.base.errors import UserError
from components.base.events import Progress
from components.resize import scaling
from components.resize.params import ResizeParams
from components.samples import facts as known
from components.samples import manifest, pack, shards
from components.samples import spec as specs

log = logging.getLogger(__name__)

_CHUNK = 64 * 2**20  # bytes of pictures held in memory at a time, and of a segment of the store


def resize(params: ResizeParams, *, raw: Path, verdicts: Path, pixels: Path, facts: Path) -> dict[str, float]:
    """Bring every kept image to one size and pack them as uint8, in order of arrival."""
    kept = _kept(raw, verdicts)
    names = _names(kept)
    store = _store(params, facts)
    _add_missing(kept, names, store, params, raw)
    labels = kept["label"].combine_chunks()
    classes = sorted(labels.drop_null().unique().to_pylist())
    ids = pc.fill_null(pc.index_in(labels, pa.array(classes, pa.string())), -1).to_numpy()
    with files.replacing_folder(pixels) as folder:
        pack.write(
            folder, _gathered(names, store), keys=kept["sha256"].to_pylist(),
            classes=classes, class_ids=ids.tolist(), spec=specs.image((scaling.CHANNELS, params.side, params.side)),
        )  # fmt: skip
    log.info("%d pictures of %d x %d px in %d classes", len(kept), params.side, params.side, len(classes))
    total = len(kept) * params.side * params.side * scaling.CHANNELS
    return {"rows": len(kept), "side": params.side, "bytes": total, "classes": len(classes),
            "unlabelled": labels.null_count}  # fmt: skip


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


def _store(params: ResizeParams, facts: Path) -> known.Store:
    kind = np.dtype([("pixels", "u1", (params.side * params.side * scaling.CHANNELS,))])
    rule = known.rule({"side": params.side, "fit": params.fit}, algorithms=[scaling.ALGORITHM], dtype=kind)
    return known.Store(facts, "picture", rule, kind)


def _add_missing(kept: pa.Table, names: np.ndarray, store: known.Store, params: ResizeParams, raw: Path) -> None:
    """Compute the pictures that the store lacks, shard by shard, and keep them there."""
    missing = np.flatnonzero(store.find(names) < 0)
    missing = missing[np.sort(np.unique(names[missing].view("S32"), return_index=True)[1])]
    if not len(missing):
        return
    new = kept.take(missing)
    large = pc.max(pc.multiply(new["width"], new["height"])).as_py() > scaling.LARGE
    locations = list(zip(new["shard"].to_pylist(), new["row"].to_pylist(), strict=True))
    mattes = new["matte"].to_pylist()
    order: list[int] = []

    def load() -> Iterator[tuple[bytes, str]]:
        for at, data in shards.read_bytes(raw, locations):
            order.append(at)
            yield data, mattes[at]

    work = partial(scaling.scale, side=params.side, fit=params.fit)
    preload = scaling.TORCH if large else ()
    waiting: list[bytes] = []
    done = held = 0

    def keep() -> None:
        nonlocal done, waiting, held
        records = np.frombuffer(b"".join(waiting), np.uint8).view(store.dtype)
        store.add(names[missing[order[done : done + len(waiting)]]], records)
        done, waiting, held = done + len(waiting), [], 0

    with Progress(len(new), what="resize") as progress:
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
