"""Decode the kept images once, bring them to one size, and pack them as uint8."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from components import files, images, manifest, pack, parallel, shards
from components.errors import UserError
from components.events import Progress
from components.params import Params

log = logging.getLogger(__name__)

CHANNELS = 3


class ResizeParams(Params):
    """The size of the pictures that the network learns from."""

    side: int = Field(ge=8, le=1024, description="px: width and height of every picture, 8..1024")
    fit: Literal["pad", "crop"] = Field(
        description="pad: the whole picture, the matte around it; crop: the middle square of it"
    )


def resize(params: ResizeParams, *, raw: Path, verdicts: Path, pixels: Path) -> dict[str, float]:
    """Bring every kept image to one size and pack them as uint8, in order of arrival."""
    rows = manifest.read(
        verdicts / "verdicts.parquet", manifest.VERDICTS, stage="clean",
        columns=["arrival", "sha256", "label", "matte", "verdict"],
    ).to_pylist()  # fmt: skip
    kept = [row for row in rows if row["verdict"] == "kept"]
    places = shards.read_index(raw).select(["arrival", "sha256", "shard", "row"]).to_pylist()
    for row in kept:
        row["place"] = places[row["arrival"]]["shard"], places[row["arrival"]]["row"]
        if places[row["arrival"]]["sha256"] != row["sha256"]:
            raise UserError(f"{verdicts}: is of another data/raw: run stage 'clean' again")
    classes = sorted({row["label"] for row in kept if row["label"] is not None})
    number = {label: at for at, label in enumerate(classes)}
    with files.replacing_folder(pixels) as folder:
        pack.write(
            folder, _pictures(kept, raw, params, folder.parent), keys=[row["sha256"] for row in kept],
            classes=classes, class_ids=[number.get(row["label"], -1) for row in kept], side=params.side,
        )  # fmt: skip
    total = len(kept) * params.side * params.side * CHANNELS
    log.info("%d pictures of %d x %d px in %d classes", len(kept), params.side, params.side, len(classes))
    unlabelled = sum(row["label"] is None for row in kept)
    return {"rows": len(kept), "side": params.side, "bytes": total, "classes": len(classes), "unlabelled": unlabelled}


def _pictures(kept: list[dict], raw: Path, params: ResizeParams, beside: Path):
    """The raw bytes of each kept image, in order; shards are read in theirs, so the result is turned on disk."""
    row_bytes = params.side * params.side * CHANNELS
    order: list[int] = []

    def load():
        for at, data in shards.read_bytes(raw, [row["place"] for row in kept]):
            order.append(at)
            yield data, kept[at]["matte"]

    with tempfile.TemporaryFile(dir=beside) as scratch, Progress(len(kept), what="resize") as progress:
        scratch.truncate(len(kept) * row_bytes)
        rows = np.memmap(scratch, np.uint8, "r+", shape=(len(kept), row_bytes))
        done = 0
        work = partial(scale, side=params.side, fit=params.fit)
        preload = ("torch", "torchvision.transforms.v2.functional")
        for results in parallel.ordered(work, parallel.batched(load()), preload=preload):
            for picture in results:
                rows[order[done]] = np.frombuffer(picture, np.uint8)
                done += 1
            progress.advance(len(results))
        for row in rows:
            yield row.tobytes()


def scale(batch: list[tuple[bytes, str]], *, side: int, fit: str) -> list[bytes]:
    """Each (bytes, matte) as side x side x 3 bytes of RGB; pure."""
    import torch  # here, and in the workers only: the other data stages start without it

    torch.set_num_threads(1)  # the pool has a process a core
    # What clean has kept was decoded before under its limit of pixels.
    return [_scale(images.decode(data, matte, max_pixels=2**31).pixels, matte, side, fit) for data, matte in batch]


def _scale(pixels: np.ndarray, matte: str, side: int, fit: str) -> bytes:
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F  # noqa: N812

    height, width = pixels.shape[:2]
    if fit == "crop":
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        pixels = pixels[top : top + edge, left : left + edge]
        size = [side, side]
    else:
        longer = max(height, width)
        size = [max(1, round(side * length / longer)) for length in (height, width)]
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)  # HWC -> CHW
    if list(image.shape[1:]) != size:
        image = F.resize(image, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    ground = np.empty((side, side, CHANNELS), np.uint8)
    ground[:] = np.frombuffer(bytes.fromhex(matte[1:]), np.uint8)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    ground[top : top + size[0], left : left + size[1]] = image.permute(1, 2, 0).numpy()
    return ground.tobytes()
