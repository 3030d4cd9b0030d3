"""A minute of training by the stage itself, as a GPU worker starts it, and the samples of what it learned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import peers
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from components.base import config
from components.evaluate import measure
from components.model import grid, sampling
from components.samples import pack
from components.samples import spec as specs

SECONDS = 60
"""Of training, about."""


def pictures(count: int, side: int) -> Tensor:
    """Smooth random images, uint8 NHWC."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=source)
    return (255 * functional.interpolate(coarse, size=side, mode="bilinear")).byte().permute(0, 2, 3, 1).contiguous()


class Found(NamedTuple):
    """What a training by the stage came to."""

    rate: float
    """Images a second, from its start to its end."""
    note: str
    """When it told of its first images, and its scores."""
    drawn: int
    evaluated: float
    """Images a second, drawn and described."""
    took: float
    """Seconds of that."""


def train(rate: float, device: torch.device, sheet: Path, *, smoke: bool) -> Found:
    """Train by the stage on as many images as ``rate``, images a second, has in :data:`SECONDS`; samples in ``sheet``.

    Then draw and describe 10,000 samples, as `evaluate` does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = int(rate * SECONDS) // 128 * 128 or 256
        _checkout(folder, images, smoke=smoke)
        began, first = time.monotonic(), 0.0
        line = [sys.executable, "-m", "components", "train"]
        work = subprocess.Popen(
            line, cwd=folder, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(peers.ROOT)}
        )
        assert work.stderr is not None
        said = b""
        while told := work.stderr.read(64):
            said += told
            first = first or (time.monotonic() - began if b" images, " in said else 0.0)
        if work.wait():
            raise RuntimeError(f"the stage ended with code {work.returncode}")
        took = time.monotonic() - began
        kept = folder / "models/candidate"
        lines = [json.loads(line) for line in (kept / "history.jsonl").read_text("utf-8").splitlines()]
        error = [line["x0_error"] for line in lines if line.get("x0_error")][-1]
        model = sampling.load(kept, device)
        ids = [at % max(1, len(model.classes)) if model.classes else -1 for at in range(64)]
        grid.write(sheet, sampling.sample(model, ids, seed=0), columns=8, scale=3)
        began, count = time.monotonic(), 16 if smoke else 10_000
        with measure.workers(kept, quiet=True) as run:
            measure.described(run, measure.samples(run, (ids * (count // 64 + 1))[:count], seed=0), "samples")
        spent = time.monotonic() - began
    note = f"{images} images, x0 error {error:.4f}, first images after {first:.1f} s"
    return Found(images / took, note, count, count / spent, spent)


def _checkout(folder: Path, images: int, *, smoke: bool) -> None:
    """What the stage reads: the checkout's own pack, or one of random pictures; params.yaml for so many images."""
    if (peers.ROOT / "data/splits").is_dir():
        for each in ("pixels", "splits"):
            shutil.copytree(peers.ROOT / "data" / each, folder / "data" / each)
    else:
        (folder / "data/pixels").mkdir(parents=True)
        (folder / "data/splits").mkdir()
        drawn = pictures(256, 32)
        blobs, keys = [each.numpy().tobytes() for each in drawn], [f"{at:064x}" for at in range(256)]
        spec = specs.image((3, 32, 32))
        pack.write(folder / "data/pixels", blobs, spec=spec, keys=keys, classes=(), class_ids=[-1] * 256)
        for each, part in (("train", range(192)), ("val", range(192, 256)), ("test", ()), ("quarantine", ())):
            pack.write_int32(folder / f"data/splits/{each}.i32", part)
    values = config.read(peers.ROOT / "params.yaml")
    small = {"images": images, "batch": 32 if smoke else 128, "ranks": 1}
    values["train"] |= small | ({"images": 256, "validations": 1, "validate_images": 8} if smoke else {})
    (folder / "params.yaml").write_text(yaml.safe_dump(values), "utf-8")
    (folder / "data/start.json").write_text("null\n", "utf-8")
