"""A summary of the whole data set: counts, and the positions of its pictures in the space of an embedding."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from components.base import files, parallel
from components.base.errors import UserError
from components.base.events import Progress
from components.embed import vectors
from components.profile.doubts import doubtful
from components.profile.params import ProfileParams
from components.samples import facts as known
from components.samples import looks, manifest, pack, shards

log = logging.getLogger(__name__)

_DIGITS = 5  # decimals that are kept: far finer than what matters, far coarser than the rounding of a sum
_ENOUGH = 10  # embedded pictures of a label, of which a mean says something
_BATCH = 64  # pictures embedded at a time


def profile(
    params: ProfileParams, *, raw: Path, verdicts: Path, pixels: Path, profile: Path, facts: Path
) -> dict[str, float]:
    """Sum the data set up: counts by label and source, and where its pictures lie in an embedding."""
    rows = manifest.read(
        verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean",
        columns=["source", "label", "text", "licence", "verdict", "reason", "sha256", "width", "height"],
    ).to_pylist()  # fmt: skip
    refused = manifest.read(raw / shards.REFUSED, manifest.REFUSED, stage="collect", columns=["source", "reason"])
    keys = pack.read_keys(pixels)
    kept = [row for row in rows if row["verdict"] == "kept"]
    if [row["sha256"] for row in kept] != keys:
        raise UserError(f"{pixels}: does not hold what {verdicts} keeps: run stage 'resize' again")
    # By hash, so that a chosen picture stays chosen until enough new ones with smaller hashes have come.
    chosen = sorted(sorted(range(len(keys)), key=lambda row: (keys[row], row))[: params.images])
    found, new = _vectors(pixels, chosen, params.embedding, facts)
    content = {
        "format": 1,
        **counts(rows, refused.to_pylist()),
        "embedding": params.embedding,
        "side": _side(pixels),
        "embedded": len(chosen),
        **summary(found),
        "label_means": _by_label([kept[row]["label"] for row in chosen], found),
    }
    for name, source in content["sources"].items():
        mine = [at for at, row in enumerate(chosen) if kept[row]["source"] == name]
        source |= {"embedded": len(mine), "mean": summary(found[mine])["mean"] if mine else []}
    points = vectors.flat_map(found).round(4)
    columns = {"row": chosen, "x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
    flagged = looks.flags(pixels, [(at, row["width"], row["height"]) for at, row in enumerate(kept)], facts)
    fits = {chosen[at]: label for at, label in doubtful(found, [kept[row]["label"] for row in chosen]).items()}
    flagged = dict.fromkeys(fits, "label") | flagged
    flags: dict[str, list] = {
        "row": sorted(flagged), "flag": [flagged[at] for at in sorted(flagged)],
        "label": [fits[at] if flagged[at] == "label" else None for at in sorted(flagged)],
    }  # fmt: skip
    with files.replacing_folder(profile) as folder:
        (folder / "profile.json").write_text(json.dumps(content, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
        manifest.write(folder / "map.parquet", manifest.table(columns, manifest.MAP))
        manifest.write(folder / looks.TABLE, manifest.table(flags, manifest.LOOKS))
    log.info("%d images, %d embedded by %s, %d of them new", len(keys), len(chosen), params.embedding, new)
    return {"images": content["images"], "rejected_share": content["rejected_share"], "embedded": len(chosen),
            "spread": content["spread"], "flagged": len(flagged)}  # fmt: skip


def counts(rows: Sequence[dict], refused: Sequence[dict]) -> dict:
    """How many images came in, were kept and were rejected, as a whole, by label and by source; pure.

    ``rows`` are the verdicts of `clean`, ``refused`` the files that `collect` refused.  Withdrawn images do not count.
    """
    kept = [row for row in rows if row["verdict"] == "kept"]
    dropped = manifest.left_out(rows, refused)
    unreached = [row for row in refused if row["reason"] in manifest.UNREACHED]
    told = [row for row in kept if row["text"]]
    stayed, went, missed, captioned = (Counter(row["source"] for row in some)
                                       for some in (kept, dropped, unreached, told))  # fmt: skip
    return {
        "images": len(kept),
        "came_in": len(kept) + len(dropped),
        "rejected_share": round(manifest.rejected_share(len(kept), len(dropped)), 6),
        "rejected": dict(sorted(Counter(row["reason"] for row in dropped).items())),
        "labels": dict(sorted(Counter(row["label"] for row in kept if row["label"] is not None).items())),
        "unreached": dict(sorted(Counter(row["reason"] for row in unreached).items())),
        "captioned": len(told),
        "licences": dict(sorted(Counter(row["licence"] for row in kept).items())),
        "unlabelled": sum(row["label"] is None for row in kept),
        "sources": {
            name: {
                "kept": stayed[name],
                "rejected": went[name],
                "unreached": missed[name],
                "captioned": captioned[name],
            }
            for name in sorted({*stayed, *went, *missed})
        },
    }


def _by_label(labels: Sequence[str | None], found: np.ndarray) -> dict[str, dict]:
    """The mean of the vectors ``found`` of each label that has enough of them, and how many it has."""
    places: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        if label is not None:
            places.setdefault(label, []).append(at)
    return {label: {"embedded": len(mine), "mean": summary(found[mine])["mean"]}
            for label, mine in sorted(places.items()) if len(mine) >= _ENOUGH}  # fmt: skip


def summary(found: np.ndarray) -> dict:
    """Mean of the vectors ``found`` (N, D), and their spread; pure.

    The spread is the root of the mean squared distance from the mean, in the embedding's own unit.
    """
    exact = found.astype(np.float64)
    mean = exact.mean(0)
    spread = float(np.sqrt(np.square(exact - mean).sum(1).mean()))
    return {"mean": [round(value, _DIGITS) for value in mean.tolist()], "spread": round(spread, _DIGITS)}


def _side(pixels: Path) -> int | str:
    """Of the pack's squares; of other pictures width x height; of several shapes that of the squarest, so that a shape
    which one picture more brings does not make two profiles unlike."""
    header = pack.read_header(pixels)
    height, width, _ = header.spec.picture_shape
    several = " and other shapes" if len(header.shapes) > 1 else ""
    return height if height == width and not several else f"{width} x {height}{several}"


def _pictures(pixels: Path, rows: Sequence[int]) -> list[np.ndarray]:
    """The uint8 pictures (height, width, channels) of ``rows`` of the pack."""
    header = pack.read_header(pixels)
    read = pack.read_rows(pixels, header, rows)
    return [
        np.frombuffer(data, np.uint8).reshape(header.picture_shape(row)) for row, data in zip(rows, read, strict=True)
    ]


def _vectors(pixels: Path, rows: Sequence[int], name: str, facts: Path) -> tuple[np.ndarray, int]:
    """The embeddings (N, D) of ``rows`` of the pack, and how many of them had to be computed now."""
    pictures = _pictures(pixels, rows)
    # The key is the pixels: the same image at another size, or on another matte, has another vector.
    names = known.keys([known.key(str(each.shape), hashlib.sha256(each.data).hexdigest()) for each in pictures])
    kind = vectors.dtype(name)
    rule = known.rule({"embedding": name}, algorithms=[vectors.ALGORITHMS[name]], dtype=kind)
    store = known.Store(facts, "vectors", rule, kind)
    new = np.flatnonzero(store.find(names) < 0)
    if len(new):
        shapes = [pictures[at].shape for at in new]
        new = new[sorted(range(len(new)), key=lambda at: shapes[at])]  # a batch has one shape
        batches = (
            [pictures[at] for at in alike[start : start + _BATCH]]
            for _, group in itertools.groupby(new.tolist(), lambda at: pictures[at].shape)
            for alike in [list(group)]
            for start in range(0, len(alike), _BATCH)
        )
        work = partial(vectors.embed, name=name)
        made = np.empty(len(new), kind)
        done = 0
        with Progress(len(new), what="profile") as progress:
            pool = (
                partial(parallel.ordered, preload=("components.embed.features",)) if name in vectors.NETWORKS else map
            )
            for results in pool(work, batches):
                made["vector"][done : done + len(results)] = results
                done += len(results)
                progress.advance(len(results))
        store.add(names[new], made)
    return store.take(store.find(names))["vector"], len(new)
