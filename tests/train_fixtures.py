"""A pack of small bright images and parameters to match: made from a seed, trained on within a second."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.networks import hf
from components.samples import pack
from components.samples import spec as specs
from components.train import checkpoint
from components.train.params import TrainParams
from components.train.stage import train

CLASSES = ("left", "right", "both")


def make_pack(folder: Path, *, rows: int = 48, side: int = 8, classes: tuple[str, ...] = CLASSES) -> tuple[Path, Path]:
    """(pixels, splits): white images with dark halves by class, 2/3 train, the rest val and test."""
    source = torch.Generator().manual_seed(1)
    pixels, splits = folder / "pixels", folder / "splits"
    pixels.mkdir(parents=True)
    splits.mkdir()
    ids = [i % len(classes) if classes and i % 7 else -1 for i in range(rows)]
    images = torch.randint(180, 256, (rows, side, side, 3), generator=source, dtype=torch.uint8)
    for image, kind in zip(images, ids, strict=True):
        if kind in (0, 2):
            image[:, : side // 2] //= 4
        if kind in (1, 2):
            image[:, side // 2 :] //= 4
    blobs = [image.numpy().tobytes() for image in images]
    keys = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    pack.write(pixels, blobs, spec=specs.image((3, side, side)), keys=keys, classes=classes, class_ids=ids)
    for name, part in (("train", slice(0, rows * 2 // 3)), ("val", slice(rows * 2 // 3, rows * 5 // 6)),
                       ("test", slice(rows * 5 // 6, rows)), ("quarantine", slice(0, 0))):  # fmt: skip
        pack.write_int32(splits / f"{name}.i32", range(rows)[part])
    return pixels, splits


def latent_pack(folder: Path) -> tuple[Path, Path]:
    """A pack of half floats that are no images, twenty of 4 x 8 x 12 numbers in two classes, and its splits."""
    pixels, splits = shaped_pack(folder, (3, 8, 12), rows=24)
    spec = specs.SampleSpec(kind="latent", shape=(4, 8, 12), dtype="f16", scale=0.18, shift=0.1, sigma_data=1.0)
    (pixels / "pixels-00000.u8").unlink()
    stored = torch.randn(24, *spec.stored_shape, generator=torch.Generator().manual_seed(2)).mul(5).half()
    keys = [hashlib.sha256(each.numpy().tobytes()).hexdigest() for each in stored]
    ids = [at % 2 for at in range(24)]
    pack.write(pixels, [stored.numpy().tobytes()], spec=spec, keys=keys, classes=("a", "b"), class_ids=ids)
    return pixels, splits


def shaped_pack(folder: Path, shape: tuple[int, ...], rows: int = 24) -> tuple[Path, Path]:
    """A pack of noise of ``shape`` (C, H, W) in two classes, and its splits."""
    pixels, splits = folder / "pixels", folder / "splits"
    pixels.mkdir(parents=True)
    splits.mkdir()
    _, height, width = shape
    images = torch.randint(0, 256, (rows, height, width, shape[0]), generator=torch.Generator().manual_seed(1))
    blobs = [image.to(torch.uint8).numpy().tobytes() for image in images]
    keys = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    ids = [at % 2 for at in range(rows)]
    pack.write(pixels, blobs, spec=specs.image(shape), keys=keys, classes=("a", "b"), class_ids=ids)
    for name, part in (("train", range(16)), ("val", range(16, 20)), ("test", range(20, rows)), ("quarantine", ())):
        pack.write_int32(splits / f"{name}.i32", part)
    return pixels, splits


BUCKETS = ((3, 12, 8), (3, 8, 8), (3, 8, 12))


def bucket_pack(folder: Path, rows: int = 48) -> tuple[Path, Path]:
    """A pack of pictures of three shapes in two classes, bright above and dark below or the reverse, and its splits.

    Half of them are squares; the splits lie in turn, so that each has all shapes.
    """
    pixels, splits = folder / "pixels", folder / "splits"
    pixels.mkdir(parents=True)
    splits.mkdir()
    source = torch.Generator().manual_seed(1)
    buckets = [(1, 0, 1, 2)[at % 4] for at in range(rows)]
    ids = [at // 4 % 2 for at in range(rows)]
    parts: list[list[bytes]] = [[], [], []]
    for bucket, number in zip(buckets, ids, strict=True):
        _, height, width = BUCKETS[bucket]
        image = torch.randint(180, 256, (height, width, 3), generator=source, dtype=torch.uint8)
        image[: height // 2] //= 4 if number else 1
        image[height // 2 :] //= 1 if number else 4
        parts[bucket].append(image.numpy().tobytes())
    keys = [hashlib.sha256(bytes([at])).hexdigest() for at in range(rows)]
    pack.write_shapes(
        pixels, list(zip(BUCKETS, parts, strict=True)), buckets=buckets, spec=specs.image((3, 8, 8)), keys=keys,
        classes=("dark", "light"), class_ids=ids,
    )  # fmt: skip
    turns = ("train", "train", "train", "train", "val", "test")
    for name in pack.SPLITS:
        pack.write_int32(splits / f"{name}.i32", [at for at in range(rows) if turns[at // 4 % 6] == name])
    return pixels, splits


UNET = {"kind": "unet", "widths": [32], "layers_per_block": 1}
COLOUR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
AUGMENT = {"horizontal_flip": 0.0, "vertical_flip": 0.0, "rotate": 0.0, "crop": 0.0, "colour": COLOUR,
           "probability": 1.0, "fill": "edge", "label": False}  # fmt: skip
DIT = {"kind": "dit", "patch": 2, "width": 16, "depth": 2, "heads": 2}
COMPACT = {"kind": "compact", "widths": [32], "layers": 1, "fold": 2, "skip_sigma": 0.1}


def tiny(**changes: object) -> TrainParams:
    """Parameters of a training that takes a second."""
    values = {
        "augment": AUGMENT, "seed": 3, "images": 64, "batch": 8, "ranks": 1, "precision": "fp32", "network": UNET,
        "lora": None, "objective": "v", "schedule": "cosine", "levels": "schedule", "level_mean": 0.0, "level_std": 1.0,
        "weighting": "plain",
        "learning_rate": 2e-3, "muon_rate": 0.01, "weight_decay": 0.01, "warmup_images": 16,
        "constant_until": 0.4, "final_rate": 0.01, "fall": "linear", "betas": [0.9, 0.99], "epsilon": 1e-8,
        "recompute": False, "sheet": 0, "profile": 0, "guide": None, "autoguidance": 1.0,
        "gradient_clip": 1.0, "ema_half_lives": [0.06], "ema_snapshots": 0, "micro_batch": "auto",
        "compile": False, "sharding": "none", "label_dropout": 0.2, "checkpoint_images": 32,
        "conditions": ["label"], "caption_dropout": 0.2, "space": "pixels",
        "guard": {"spike": None, "window": 8, "give_up": 2}, "loaders": 0, "keep": 2, "patience": None,
        "validate_images": 4, "validations": 2, "sampler": "dpmpp_2m", "steps": 4, "guidance": 2.0, "onnx": False,
    }  # fmt: skip
    return TrainParams.model_validate_json(json.dumps(values | changes))


def served_pictures(answer: list[dict[str, Any]]) -> Tensor:
    """The pictures that a served model answered with, uint8 NHWC."""
    import numpy as np
    from PIL import Image

    found = [Image.open(io.BytesIO(base64.b64decode(one["png"]))) for one in answer]
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in found])


STRANGER = ["components", "flows", *(name for name in hf.NOT_NEEDED if "." not in name)]
"""What somebody who has diffusers alone cannot import: our code, and what diffusers only likes to have."""


def by_a_stranger(code: str, folder: Path) -> list[str]:
    """What ``code`` prints, in ``folder`` and without :data:`STRANGER`, line by line."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys(set({STRANGER}) - sys.modules.keys()))\n"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", hidden + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(folder: Path, params: TrainParams, packs: tuple[Path, Path]) -> tuple[dict[str, float], dict[str, bytes]]:
    """Train in ``folder``; what it tells, and every file of the model."""
    pixels, splits = packs
    numbers = train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return numbers, contents(folder / "model")


def stop_at_second_checkpoint(monkeypatch) -> None:
    """Have the next training end as by Ctrl-C once it has saved two checkpoints; the one after it goes on."""
    true_save, calls = checkpoint.save, []

    def save(*arguments, **options):
        true_save(*arguments, **options)
        calls.append(arguments[1])
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
