"""Samples from a model folder: loaded without pickle, the same picture for the same (seed, number).

Shapes: N pictures, C channels, H and W pixels.  Pictures leave as uint8 NHWC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components import data, networks, samplers, x0_error
from components.errors import UserError, nearest
from components.objective import Objective, Weighting, noted

if TYPE_CHECKING:
    from torch import nn

MOST_STEPS = 1000

BATCH = 32
"""Pictures drawn at once on the CPU; fixed, since rounding depends on it."""


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A loaded model folder."""

    network: nn.Module
    objective: Objective
    weighting: Weighting
    classes: tuple[str, ...]
    null_class: int | None
    side: int
    channels: int
    steps: int
    guidance: float

    def class_id(self, name: str) -> int:
        """The number of class ``name``; UserError with the nearest name when there is none."""
        if name in self.classes:
            return self.classes.index(name)
        if not self.classes:
            raise UserError(f"label {name!r}: this model was trained without labels")
        raise UserError(f"label {name!r} is not one of {', '.join(self.classes)}{nearest(name, self.classes)}")


def load(folder: Path, device: torch.device | str = "cpu") -> Denoiser:
    """The denoiser in ``folder``; UserError when it is missing, incomplete or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not folder.is_dir():
        raise UserError(f"{folder}: no model there: run stage 'train', or `dvc pull`")
    notes = _read_json(folder / "stillroom.json")
    config = _read_json(folder / "unet" / "config.json")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    try:
        network = networks.read(config)
        network.load_state_dict(load_file(weights))
        return Denoiser(
            network=network.to(device).eval().requires_grad_(False), objective=noted(notes["objective"]),
            weighting=notes["weighting"],
            classes=tuple(notes["classes"]), null_class=notes["null_class"], side=int(notes["side"]),
            channels=network.config.in_channels, steps=int(notes["steps"]), guidance=float(notes["guidance"]),
        )  # fmt: skip
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: not a whole denoiser ({first}): train or pull it again") from None


@torch.no_grad()
def sample(
    model: Denoiser | Path, class_ids: Sequence[int], *, seed: int, steps: int | None = None,
    guidance: float | None = None, start: int = 0, precision: str = "auto",
    progress: Callable[[int], object] | None = None,
) -> Tensor:  # fmt: skip
    """One uint8 HWC picture a class id (-1: no label), as NHWC; picture i is number ``start`` + i of ``seed``.

    ``steps`` and ``guidance`` are the model's own unless given; ``progress`` is told of pictures done.
    """
    model = load(model) if isinstance(model, Path) else model
    _check(model, class_ids, steps)
    drawn = []
    for first in range(0, len(class_ids), BATCH):
        ids = class_ids[first : first + BATCH]
        noise = _noise(model, seed, range(start + first, start + first + len(ids)))
        images = _denoise(model, noise, ids, steps, guidance, precision, lambda *_: None)
        drawn.append(data.to_pixels(images).cpu())
        if progress:
            progress(len(ids))
    empty = torch.empty(0, model.side, model.side, model.channels, dtype=torch.uint8)
    return torch.cat([empty, *drawn])


@torch.no_grad()
def film(
    model: Denoiser, class_ids: Sequence[int], *, seed: int, frames: int, precision: str = "auto"
) -> tuple[Tensor, list[float]]:
    """What the denoiser believes along the way: uint8 pictures x frames x H x W x C, and each frame's sigma.

    Frames are predicted clean images at ``frames`` of the steps, the first and the last among them.
    """
    _check(model, class_ids, None)
    seen: list[tuple[float, Tensor]] = []
    noise = _noise(model, seed, range(len(class_ids)))
    _denoise(model, noise, class_ids, None, None, precision, lambda *step: seen.append(step))
    frames = min(frames, len(seen))
    chosen = [seen[round(i * (len(seen) - 1) / max(1, frames - 1))] for i in range(frames)]
    return torch.stack([data.to_pixels(image).cpu() for _, image in chosen], 1), [s for s, _ in chosen]


def _noise(model: Denoiser, seed: int, numbers: Sequence[int]) -> Tensor:
    shape = (model.channels, model.side, model.side)
    return torch.stack([torch.randn(shape, generator=data.generator(seed, "sample", i)) for i in numbers])


def _denoise(
    model: Denoiser, noise_NCHW: Tensor, class_ids: Sequence[int], steps: int | None, guidance: float | None,
    precision: str, watch: Callable[[float, Tensor], object],
) -> Tensor:  # fmt: skip
    """Clean images in [-1, 1], NCHW; ``watch`` is told each step's sigma and predicted clean images."""
    device = next(model.network.parameters()).device
    schedule = model.objective.schedule
    sigmas = samplers.levels(steps or model.steps, schedule.low, schedule.high)
    denoise = guided(model, class_ids, model.guidance if guidance is None else guidance, precision)
    return samplers.dpmpp_2m(denoise, noise_NCHW.to(device) * sigmas[0], sigmas, watch)


def guided(model: Denoiser, class_ids: Sequence[int], guidance: float, precision: str) -> samplers.Denoise:
    """D(x, sigma) of ``model`` for these classes, pulled towards them: Ho and Salimans 2022, arXiv:2207.12598."""
    device = next(model.network.parameters()).device
    labels = x0_error.labels_for(torch.tensor(class_ids, dtype=torch.int64), model.null_class)
    labels = None if labels is None else labels.to(device)
    pulled = labels is not None and guidance != 1 and bool((labels != model.null_class).any())

    def denoise(x: Tensor, sigma: float) -> Tensor:
        at = torch.full((len(x),), sigma, device=device)
        with x0_error.autocast(device, precision):
            if not pulled:
                return model.objective.denoise(model.network, x, at, labels)
            both = torch.cat([labels, torch.full_like(labels, model.null_class)])
            found = model.objective.denoise(model.network, x.repeat(2, 1, 1, 1), at.repeat(2), both)
        with_label, without = found.chunk(2)
        return torch.lerp(without, with_label, guidance)

    return denoise


def _check(model: Denoiser, class_ids: Sequence[int], steps: int | None) -> None:
    wrong = [number for number in class_ids if not -1 <= number < len(model.classes)]
    if wrong:
        raise UserError(f"class {wrong[0]} is not one of the {len(model.classes)} classes of this model")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise UserError(f"steps must be in 1..{MOST_STEPS}, not {steps}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing: this is not a whole denoiser, train or pull it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}): train or pull the model again") from None
    if not isinstance(read, dict):
        raise UserError(f"{path}: holds {type(read).__name__}, wanted an object: train or pull it again")
    return read
