"""A minute of training by the stage itself, as a GPU worker starts it, and the samples of what it learned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import peers
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from components.base import config, events
from components.evaluate import measure
from components.model import grid, sampling
from components.samples import pack
from components.samples import spec as specs

MODEL = "models/candidate"
SECONDS = 60
"""Of training, about."""


def pictures(count: int, side: int) -> Tensor:
    """Smooth random images, uint8 NHWC."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=source)
    return (255 * functional.interpolate(coarse, size=side, mode="bilinear")).byte().permute(0, 2, 3, 1).contiguous()


class Found(NamedTuple):
    """What a training by the stage came to."""

    images: int
    took: float
    """Seconds, from its start to its end."""
    first: float
    """Seconds from its start until it told of its first images."""
    errors: list[float]
    """The x0 error at each check."""

    def note(self) -> str:
        """In words."""
        errors = ", ".join(f"{error:.4f}" for error in self.errors)
        return f"{self.images} images, first images after {self.first:.1f} s; x0 errors {errors}"


def train(
    folder: Path, images: int, *, data: Path = peers.ROOT / "data", smoke: bool = False, profile: Path | None = None,
    **changes: Any,
) -> Found:  # fmt: skip
    """Train in empty ``folder`` by the stage on so many images of ``data``, with ``changes`` of section train.

    ``profile``: where cProfile's numbers of it go.
    """
    _checkout(folder, data, images, smoke=smoke, changes=changes)
    began, first, told = time.monotonic(), 0.0, folder / "events.jsonl"
    own = {"PYTHONPATH": _path(), events.VARIABLE: str(told)}
    profiled = ["-m", "cProfile", "-o", str(profile.absolute())] if profile else []
    line = [sys.executable, *profiled, "-m", "components", "train"]
    with (folder / "said").open("wb") as said:
        work = subprocess.Popen(line, cwd=folder, stderr=said, env=os.environ | own)
    while work.poll() is None:
        if not first and told.is_file() and '"kind":"progress"' in told.read_text("utf-8"):
            first = time.monotonic() - began
        time.sleep(0.05)
    if work.wait():
        last = (folder / "said").read_text("utf-8", "replace") + (told.read_text("utf-8") if told.is_file() else "")
        raise RuntimeError(f"the stage ended with code {work.returncode}: {last[-2000:]}")
    took = time.monotonic() - began
    lines = [json.loads(line) for line in (folder / MODEL / "history.jsonl").read_text("utf-8").splitlines()]
    return Found(images, took, first, [line["x0_error"] for line in lines if line.get("x0_error")])


def drawn(folder: Path, device: torch.device, sheet: Path) -> list[int]:
    """Write samples of the model trained in ``folder`` to ``sheet``; the class ids in turn."""
    model = sampling.load(folder / MODEL, device)
    ids = [at % max(1, len(model.classes)) if model.classes else -1 for at in range(80)]
    side = model.spec.shape[-1]
    grid.write(sheet, sampling.sample(model, ids, seed=0), columns=10, scale=3 if side <= 32 else 2)
    return ids


def evaluated(folder: Path, ids: list[int], count: int) -> float:
    """Seconds to draw and describe ``count`` samples of the model trained in ``folder``, as `evaluate` does."""
    began, model = time.monotonic(), folder / MODEL
    with measure.workers(model, quiet=True) as run:
        measure.described(run, measure.samples(run, (ids * (count // len(ids) + 1))[:count], seed=0), "samples")
    return time.monotonic() - began


def _path() -> str:
    return os.pathsep.join(filter(None, (str(peers.ROOT), os.environ.get("PYTHONPATH"))))


def _checkout(folder: Path, data: Path, images: int, *, smoke: bool, changes: dict[str, Any]) -> None:
    """What the stage reads: the pack in ``data``, or one of random pictures; params.yaml for so many images."""
    if (data / "splits").is_dir():
        for each in ("pixels", "splits"):
            shutil.copytree(data / each, folder / "data" / each)
    else:
        (folder / "data/pixels").mkdir(parents=True)
        (folder / "data/splits").mkdir()
        blobs, keys = [each.numpy().tobytes() for each in pictures(256, 32)], [f"{at:064x}" for at in range(256)]
        spec = specs.image((3, 32, 32))
        pack.write(folder / "data/pixels", blobs, spec=spec, keys=keys, classes=(), class_ids=[-1] * 256)
        for each, part in (("train", range(192)), ("val", range(192, 256)), ("test", ()), ("quarantine", ())):
            pack.write_int32(folder / f"data/splits/{each}.i32", part)
    values = config.read(peers.ROOT / "params.yaml")
    small = {"images": images, "batch": 32 if smoke else 128, "ranks": 1}
    values["train"] |= small | ({"images": 256, "validations": 1, "validate_images": 8} if smoke else {}) | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values), "utf-8")
    (folder / "data/start.json").write_text("null\n", "utf-8")
