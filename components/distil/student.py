"""Progressive distillation: a student that samples in few steps what its teacher, a denoiser, samples in many.

Salimans and Ho 2022, arXiv:2202.00512, algorithm 2, in terms of sigma, with two changes: one step of the student
replaces ``substeps`` steps of the teacher, not two, and these are of DPM-Solver++(2M), not DDIM; so one round is
enough.  The teacher's guidance is distilled too (Meng et al. 2023, arXiv:2210.03142, section 3.1).  A student that is
given as the teacher makes the next round.

Shapes: B samples of a batch, (B, C, ...), values in [-1, 1]; sigmas (B,), as each sample has its own noise level.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.base import events, files
from components.base.algorithms import Algorithm
from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import conditions, samplers
from components.diffusion.conditions import Condition
from components.diffusion.noise import generator
from components.diffusion.objective import along
from components.diffusion.schedule import Schedule
from components.distil.params import DistilParams
from components.evaluate import measure
from components.model import denoiser, portable, sampling, serving
from components.networks import precision, registry
from components.samples import pack
from components.train import averages, checkpoint

ALGORITHM = Algorithm("distil", 1, ("diffusers", "torch"))
"""From a teacher to the student's weights, and what a checkpoint holds: a change of either raises the version."""

_log = logging.getLogger(__name__)


@dataclass
class Learner:
    """The state of a distillation between two steps."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    images_seen: int = 0

    def pack(self) -> dict[str, Any]:
        """The state as plain data and tensors."""
        modules = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimiser")}
        return modules | {"images_seen": self.images_seen}

    def unpack(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`pack` gave."""
        for name in ("network", "average", "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        self.images_seen = saved["images_seen"]


def distil(
    params: DistilParams, *, teacher: Path, pixels: Path, splits: Path, student: Path, scratch: Path
) -> dict[str, Any]:  # fmt: skip
    """Train a student with the teacher's network and write its model folder to ``student``.

    Returns images seen, last loss and the student's noise levels.  Continues from the last checkpoint below
    ``scratch``, if there is one, to the same bytes.  UserError when the data does not fit the teacher or the loss is
    not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    master = sampling.load(teacher)
    master.network.to(device)
    images, rows = tensors.Pixels(pixels), torch.tensor(list(pack.read_split(splits, "train")))
    _check(master, images.header, rows, teacher)
    folder = scratch / key(params, teacher, pixels, splits)
    learner = _started(params, master, folder, device)
    sigmas = noise_levels(params.steps, master.objective.schedule)
    total = params.images // params.batch * params.batch
    saved, loss = learner.images_seen, math.nan
    with events.Progress(total, what="distil", start=learner.images_seen) as progress:
        while learner.images_seen < total:
            loss = _step(params, master, learner, images, rows, sigmas)
            progress.advance(params.batch, note=f"loss {loss:.4f}")
            if learner.images_seen - saved >= params.checkpoint_images and learner.images_seen < total:
                saved = learner.images_seen
                checkpoint.save(folder, saved, learner.pack(), keep=2)
    _write(student, params, teacher, learner, sigmas)
    shutil.rmtree(folder, ignore_errors=True)
    return {"images_seen": learner.images_seen, "loss": loss, "sigmas": sigmas[:-1]}


def noise_levels(steps: int, schedule: Schedule) -> list[float]:
    """The noise levels, sigma, of a student of ``steps`` steps, falling, and the one at which its last step ends."""
    return samplers.spaced("karras", steps + 1, schedule)


def target(
    master: sampling.Denoiser, x: Tensor, sigma: Tensor, following: Tensor, condition: Condition, substeps: int
) -> Tensor:  # fmt: skip
    """The clean images with which one step of DDIM ends where ``substeps`` steps of the teacher do (algorithm 2).

    The steps go from ``x`` at ``sigma`` to ``following``, both (B,), by DPM-Solver++(2M), equal in log sigma.
    """
    ratio = (following / sigma) ** (1 / substeps)
    y, at, before = x, sigma, None
    for _ in range(substeps):
        now = _guided(master, y, at, condition)
        estimate = now if before is None else now + (now - before) / 2
        y, at, before = torch.lerp(estimate, y, along(ratio, y)), at * ratio, now
    share = along(following / sigma, x)
    return (y - share * x) / (1 - share)


def key(params: DistilParams, teacher: Path, pixels: Path, splits: Path) -> str:
    """16 hex digits for all that decides the outcome: parameters, teacher, data, the algorithm and its libraries."""
    digest = hashlib.sha256(json.dumps([params.model_dump(mode="json"), ALGORITHM.key()]).encode())
    inputs = [_weights(teacher), _weights(teacher).with_name("config.json"), teacher / "stillroom.json"]
    inputs += [pixels / name for name in ("header.json", "classes.i32", "keys.sha256")]
    for path in (*inputs, splits / "train.i32"):
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()[:16]


def _check(master: sampling.Denoiser, header: pack.Header, rows: Tensor, teacher: Path) -> None:
    if not len(rows):
        raise UserError("data/splits: no image to distil on: see the data report for what was dropped")
    measure.check(master, header, teacher, "distil it on its own data")


def _started(params: DistilParams, master: sampling.Denoiser, folder: Path, device: torch.device) -> Learner:
    """The state of the last checkpoint, or a student that is a copy of its teacher."""
    network = copy.deepcopy(master.network).requires_grad_(True).train()
    average = copy.deepcopy(master.network).eval()
    cuda = device.type == "cuda"
    # On the CPU torch 2.14.1 misapplies fused updates of some strides.
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=cuda, foreach=not cuda
    )
    learner = Learner(network, average, optimiser)
    saved = checkpoint.load(folder, device)
    if saved:
        learner.unpack(saved)
        _log.info("going on from the checkpoint after %d images", learner.images_seen)
    return learner


def _step(
    params: DistilParams, master: sampling.Denoiser, learner: Learner, images: tensors.Pixels, rows: Tensor,
    sigmas: list[float],
) -> float:  # fmt: skip
    """Take one optimiser step and return its loss; what is drawn at random depends on (seed, step) alone."""
    step, device = learner.images_seen // params.batch, next(learner.network.parameters()).device
    source = generator(params.seed, "distil", step)
    chosen = rows[torch.randint(len(rows), (params.batch,), generator=source)]
    noise = torch.randn(params.batch, *master.spec.shape, generator=source).to(device)
    # The levels in turn, so that each gets as many images as the others.
    which = (torch.arange(params.batch) + step) % params.steps
    ends = torch.tensor(sigmas, dtype=torch.float32)
    sigma, following = ends[which].to(device), ends[which + 1].to(device)
    class_ids = measure.known_classes(master, images)[chosen]
    condition = conditions.moved(conditions.of_classes(class_ids, master.null_class), device)
    x = tensors.to_network(images.gather(chosen), device, spec=images.header.spec) + along(sigma, noise) * noise
    with precision.autocast(device, "auto"):
        with torch.no_grad():
            clean = target(master, x, sigma, following, condition, params.substeps).float()
        # The loss of training: the rest of x is the noise of ``clean``.
        left = (x - clean) / along(sigma, x)
        loss = master.objective.loss(learner.network, clean, left, sigma, condition, master.weighting).mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), params.gradient_clip)
    if not math.isfinite(float(norm)):
        raise UserError(f"distillation broke down at image {learner.images_seen}: lower distil.learning_rate")
    for settings in learner.optimiser.param_groups:
        settings["lr"] = params.learning_rate * (1 - learner.images_seen / params.images)
    learner.optimiser.step()
    learner.optimiser.zero_grad(set_to_none=True)
    learner.images_seen += params.batch
    keep = averages.decay(params.ema_half_life, learner.images_seen, params.batch)
    with torch.no_grad():
        torch._foreach_lerp_(list(learner.average.parameters()), list(learner.network.parameters()), 1 - keep)
    return float(loss.detach())


def _guided(master: sampling.Denoiser, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
    """D(x, sigma) of the teacher with the guidance that it samples with: Ho and Salimans 2022, arXiv:2207.12598."""
    if not condition or master.guidance == 1:
        return master.objective.denoise(master.network, x, sigma, condition)
    both = conditions.joined([condition, conditions.without(condition, master.null_class)])
    found = master.objective.denoise(master.network, torch.cat([x, x]), sigma.repeat(2), both)
    with_label, without = found.chunk(2)
    return torch.lerp(without, with_label, master.guidance)


def _write(student: Path, params: DistilParams, teacher: Path, learner: Learner, sigmas: list[float]) -> None:
    notes = files.read_json_object(teacher / "stillroom.json", "train or pull the model again")
    objective = sampling.load(teacher).objective
    changed = {
        "sampler": "euler", "steps": params.steps, "guidance": 1.0, "sigmas": sigmas[:-1],
        "distilled": {"teacher": files.sha256(_weights(teacher)), "guidance": notes["guidance"],
                      **params.model_dump(mode="json")},
    }  # fmt: skip
    with files.replacing_folder(student) as folder:
        denoiser.save(folder, learner.average.cpu(), objective, {**notes, **changed})
        if (teacher / portable.FOLDER).is_dir():
            portable.write(folder, learner.average, objective, sigmas=sigmas[:-1])
            serving.write(folder, notes)
        (folder / "README.md").write_text(_CARD.format(**changed, images=learner.images_seen), "utf-8")


def _weights(model: Path) -> Path:
    return registry.folder(model) / registry.WEIGHTS


_CARD = """---
library_name: diffusers
tags: [diffusion, denoiser, stillroom, distilled]
---

# A student that draws in {steps} steps

Distilled (progressive distillation, arXiv:2202.00512, one round) in {images} images from a denoiser whose weights have
the SHA-256 {distilled[teacher]}; its guidance of {distilled[guidance]:g} is distilled too, so sample without any.
`distilled.json` holds its scores beside those of the teacher.

Use it only at the noise levels sigma = {sigmas} (of x = image + sigma * noise), with Euler's method from one to the
next; the last prediction is the picture: `stillroom sample --model FOLDER` does that. The scheduler in this folder is
the teacher's and visits other noise levels.
"""
