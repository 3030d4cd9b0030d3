"""A student that samples in few steps what its teacher, a denoiser, samples in many, by consistency tuning.

Easy Consistency Tuning (Geng et al. 2024, arXiv:2406.14548): the teacher's network goes on learning in the loop of
stage ``train``, with the aim of :class:`components.train.aims.Consistency` in place of denoising.  The teacher's
guidance is learnt with it, so the student draws without.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.algorithms import Algorithm
from components.base.errors import UserError
from components.diffusion import consistency
from components.distil.params import DistilParams
from components.evaluate import measure
from components.model import denoiser, portable, sampling, schedulers, serving
from components.networks import registry
from components.samples import pack
from components.train import aims, compiling, loop, stage
from components.train import start as beginning
from components.train.distributed.ranks import together
from components.train.params import TrainParams
from components.train.state import State

ALGORITHM = Algorithm("distil", 2, ("diffusers", "torch"))
"""From a teacher to the student's weights, but for what stage ``train`` does: a change raises the version."""


def distil(
    params: DistilParams, train: TrainParams, *, teacher: Path, pixels: Path, splits: Path, student: Path, scratch: Path
) -> dict[str, Any]:  # fmt: skip
    """Tune a student from the teacher's network and write its model folder to ``student``.

    ``train`` is section train of params.yaml.  Returns images seen, last loss and the student's noise levels.  Goes on
    from the last checkpoint below ``scratch``, if there is one, to the same bytes.  UserError when the data does not
    fit the teacher, the teacher is a student, or training breaks down.
    """
    master, header = sampling.load(teacher), pack.read_header(pixels)
    if not len(pack.read_split(splits, "train")):
        raise UserError(f"{splits}: no image to distil on: see the data report for what was dropped")
    measure.check(master, header, teacher, "distil it on its own data")
    settings, tuning = training(params, train, master), tuned(params, master)
    folder = scratch / key(settings, tuning, teacher, pixels, splits)
    page = folder / "start.json"
    beginning.take(teacher.name, teacher, page)
    if master.guide is not None:
        shutil.copytree(teacher / registry.GUIDE, page.with_suffix("") / registry.GUIDE)
    compiling.keep_in(scratch.with_name("compiled"))
    job = loop.Job(params=settings, pixels=pixels, splits=splits, folder=folder, start=page, tuning=tuning)
    try:
        with together(settings.ranks, scratch, job.command()) as group:
            state = loop.fit(job, group)
            group.wait()
    except UserError as error:  # the loop names the parameters of stage train
        raise UserError(str(error).replace("train.learning_rate", "distil.rate")) from error
    if group.rank == 0:
        _write(student, params, master, teacher, state, tuning)
        shutil.rmtree(folder, ignore_errors=True)  # the student is in place
    losses = [line["loss"] for line in state.history if "loss" in line]
    return {"images_seen": state.images_seen, "loss": losses[-1] if losses else None, "sigmas": list(tuning.sigmas)}


def training(params: DistilParams, train: TrainParams, master: sampling.Denoiser) -> TrainParams:
    """Section ``train``, but for what the teacher and section ``distil`` decide; UserError where they clash."""
    if master.sigmas:
        raise UserError("this model is a student already, which leads along no path: distil its teacher")
    if master.text:
        raise UserError("this model is told what to draw by captions, which a student is not: distil one of labels")
    if master.autoencoder:
        raise UserError("this model draws latents, and a student of such is not written yet: distil one of pixels")
    objective = master.objective
    changed = {
        "seed": params.seed, "images": params.images, "learning_rate": params.rate * train.learning_rate,
        "muon_rate": params.rate * train.muon_rate, "network": registry.params(master.network),
        "objective": objective.kind, "schedule": objective.schedule.name, "weighting": master.weighting,
        "sampler": "consistency", "steps": params.steps, "guidance": 1.0, "onnx": True, "patience": None,
        "guide": None, "autoguidance": 1.0, "conditions": ["label"], "space": "pixels",
        "ema_half_lives": train.ema_half_lives[:1], "ema_snapshots": 0, "lora": None, "sharding": "none",
    }  # fmt: skip
    return config.section({"train": {**train.model_dump(mode="json"), **changed}}, "train", TrainParams)


def tuned(params: DistilParams, master: sampling.Denoiser) -> aims.Tuning:
    """What the aim of the loop needs."""
    return aims.Tuning(
        gap=params.gap, halvings=params.halvings, guidance=float(master.guidance),
        autoguidance=float(master.autoguidance), classes=master.classes,
        sigmas=tuple(consistency.sigmas(params.steps, master.objective.schedule)),
    )  # fmt: skip


def key(settings: TrainParams, tuning: aims.Tuning, teacher: Path, pixels: Path, splits: Path) -> str:
    """16 hex digits for all that decides the outcome: parameters, teacher, data, the algorithms and their libraries."""
    known = [stage.key(settings, pixels, splits), tuning.model_dump(mode="json"), ALGORITHM.key()]
    digest = hashlib.sha256(json.dumps(known).encode())
    paths = [_weights(teacher), _weights(teacher).with_name("config.json"), teacher / "stillroom.json"]
    for path in paths + [_weights(teacher / registry.GUIDE)] * (teacher / registry.GUIDE).is_dir():
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()[:16]


def _write(
    student: Path, params: DistilParams, master: sampling.Denoiser, teacher: Path, state: State, tuning: aims.Tuning
) -> None:  # fmt: skip
    notes = files.read_json_object(teacher / "stillroom.json", "train or pull the model again")
    notes.pop("shapes", None)  # it has seen those of the pack
    seen = {"shapes": [list(shape) for shape in state.shapes]} if len(state.shapes) > 1 else {}
    changed = {
        **seen, "sampler": "consistency", "steps": params.steps, "guidance": 1.0, "autoguidance": 1.0,
        "sigmas": list(tuning.sigmas),
        "distilled": {"teacher": files.sha256(_weights(teacher)), "guidance": master.guidance,
                      "autoguidance": master.autoguidance, **params.model_dump(mode="json")},
    }  # fmt: skip
    stock = schedulers.jumping(master.objective)
    loads = stock and (teacher / "model_index.json").is_file()
    stock_words = _STOCK.format(timesteps=schedulers.timesteps(master.objective, tuning.sigmas)) if loads else ""
    levels = ", ".join(f"{sigma:.4g}" for sigma in tuning.sigmas)
    words = _CARD.format(**{**changed, "sigmas": levels}, images=state.images_seen, stock=stock_words)
    with files.replacing_folder(student) as folder:
        denoiser.save(folder, state.average.cpu(), master.objective, {**notes, **changed}, stock)
        if (teacher / portable.FOLDER).is_dir():
            portable.write(folder, state.average, master.objective, tuning.sigmas, shapes=[*state.shapes])
            serving.write(folder, notes)
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in state.history)
        (folder / "history.jsonl").write_text(lines, "utf-8")
        (folder / "README.md").write_text(words, "utf-8")


def _weights(model: Path) -> Path:
    return registry.folder(model) / registry.WEIGHTS


_CARD = """---
library_name: diffusers
tags: [diffusion, denoiser, consistency, stillroom, distilled]
---

# A student that draws in {steps} steps

Made by consistency tuning (Easy Consistency Tuning, arXiv:2406.14548) in {images} images from a denoiser whose weights
have the SHA-256 {distilled[teacher]}.
The denoiser's guidance of {distilled[guidance]:g} and autoguidance of {distilled[autoguidance]:g} are learnt with it,
so sample without any. `distilled.json` holds the scores of both, `history.jsonl` the course of the tuning.

At any noise level of x = image + sigma * noise, its answer D(x, sigma) is one image, where a denoiser's is the mean of
all images that may be behind x. It draws at sigma {sigmas}: the answer to pure noise at the first, then at each other
one the answer to the last picture with fresh noise. `stillroom sample --model FOLDER` does that.{stock}
"""

_STOCK = """

The scheduler in this folder is diffusers' LCMScheduler, which does the same at these levels' timesteps:

```python
from diffusers import DiffusionPipeline

images = DiffusionPipeline.from_pretrained("FOLDER")(batch_size=4, timesteps={timesteps}).images
```"""
