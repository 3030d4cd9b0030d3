"""Stage ``train``: fit the denoiser. The loop is in loop.py, its parameters in params.py."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
from pathlib import Path

import torch
from torch import nn

from components.base import files
from components.base.algorithms import Algorithm
from components.base.errors import UserError
from components.dataset import order, tensors
from components.dataset.told import Captions
from components.diffusion import samplers
from components.model import card, denoiser, portable, prompts, schedulers, serving, stable
from components.networks import autoencoder, lora, registry
from components.samples import latents as spaces
from components.samples import pack, texts
from components.train import averages, compiling, loop
from components.train import start as beginning
from components.train.distributed.ranks import together
from components.train.params import TrainParams

__all__ = ["TrainParams", "train"]

ALGORITHM = Algorithm("train", 6, ("diffusers", "numpy", "peft", "torch"))
"""Everything from a pack to averaged weights, checkpoints' form among it. Raise the version in the commit that changes
what a training comes to, or what a checkpoint holds; tests/recorded_training.py notices the first."""

_log = logging.getLogger(__name__)


def train(
    params: TrainParams, *, pixels: Path, splits: Path, model: Path, scratch: Path, start: Path | None = None,
    text: Path | None = None, latents: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Fit the denoiser to the training images, or their latents; write it as a diffusers folder with its history."""
    space = spaces.asked(latents, pixels) if params.space == "latents" else None
    pixels = space.pack if space else pixels
    data = loop.told(params, pixels, text, space)
    header = data.header
    counts = {name: len(pack.read_split(splits, name)) for name in pack.SPLITS}
    if not counts["train"]:
        raise UserError(f"{splits}: no image to train on: see the data report for what was dropped")
    if data.captions and params.network.kind == "unet":
        stable.encoder(data.captions)  # before hours of work: whether it is there to be handed out
    begun = beginning.noted(start)
    if params.lora and not begun:
        raise UserError("train.lora needs a start: run `stillroom start MODEL`, or set train.lora to null")
    beginning.check_space(start, space and space.autoencoder)
    beginning.say_levels(start, beginning.objective(start, params.objective_at(header.spec.sigma_data)))
    folder = scratch / key(params, pixels, splits, start, text)
    compiling.keep_in(scratch.with_name("compiled"))
    job = loop.Job(params=params, pixels=pixels, splits=splits, start=start, folder=folder, text=text,
                   latents=latents if space else None)  # fmt: skip
    with together(params.ranks, scratch, job.command()) as group:
        state = loop.fit(job, group)
        group.wait()
    # The other ranks have ended: none waits, with a limit, while this one exports.
    parameters = lora.size_when_merged(state.average)
    checks = [line["x0_error"] for line in state.history if "x0_error" in line]
    error = checks[-1] if checks else None
    if state.best.weights:
        error = min(check for check in checks if check is not None)  # the weights are of that check
    guide = _guide(params, folder / averages.GUIDE, state.average) if group.rank == 0 else None
    if group.rank == 0:
        notes = _notes(params, state, data, space, train_images=counts["train"], begun=begun, guided=guide is not None)
        words = card.text(
            _recipe(params, state, guide, data, space), spec=header.spec, shapes=header.shapes, classes=header.classes,
            counts=counts, parameters=parameters, error=error,
        )  # fmt: skip
        stored = folder / averages.FOLDER
        adapters = lora.merge(state.average)
        _write(model, params, state, notes, words, _skipped(params, state, pixels, splits), adapters, guide,
               stored=stored, captions=data.captions, vae=space and space.vae)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)  # the model is in place
    losses = [line["loss"] for line in state.history if "loss" in line]
    numbers = {"images_seen": state.images_seen, "parameters": parameters, "loss": losses[-1] if losses else None,
               "x0_error": error, "best_images": state.best.images_seen or None,
               "windows_skipped": len(state.guard.skips) or None}  # fmt: skip
    return {name: float(number) for name, number in numbers.items() if number is not None}


def key(
    params: TrainParams, pixels: Path, splits: Path, start: Path | None = None, text: Path | None = None
) -> str:  # fmt: skip
    """16 hex digits for all that decides the outcome: parameters, data, the algorithm and its libraries.

    The number of ranks and the size of pieces decide how sums are rounded and nothing else, as the device does: a
    training goes on with others.
    """
    free = {"onnx", "ranks", "loaders", "keep", "checkpoint_images", "micro_batch", "recompute", "sheet", "profile"}
    if params.conditions == ("label",):  # as it always was: such a training goes on where another release left it
        free |= {"conditions", "caption_dropout"}
    if params.space == "pixels":
        free |= {"space"}
    deciding = params.model_dump(mode="json", exclude=free)
    digest = hashlib.sha256(json.dumps([deciding, ALGORITHM.key()]).encode())
    inputs = [pixels / "header.json", pixels / "classes.i32", pixels / "keys.sha256"]
    inputs += [pixels / pack.BUCKETS] if (pixels / pack.BUCKETS).is_file() else []
    inputs += [splits / f"{name}.i32" for name in ("train", "val")]
    mirrored = pixels.parent / spaces.MIRRORED / "header.json"  # beside a pack of latents
    inputs += [mirrored] if params.space == "latents" and params.augment.on and mirrored.is_file() else []
    inputs += [start] if start else []
    if text and "text" in params.conditions:
        inputs += texts.deciding(text)
    for path in inputs:
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()[:16]


def _notes(
    params: TrainParams, state: loop.State, data: tensors.Pixels, space: spaces.Latents | None, *, train_images: int,
    begun: dict | None, guided: bool,
) -> dict:  # fmt: skip
    """What stillroom.json holds, but for the objective."""
    header = data.header
    height, width = header.spec.shape[1:]
    square = {"side": height} if height == width else {}
    shapes = {"shapes": [list(shape) for shape in header.shapes]} if len(header.shapes) > 1 else {}
    notes = {
        "format": 2, "classes": list(header.classes), "null_class": data.null_class,
        **square, "spec": header.spec.plain(), **shapes, "weighting": params.weighting,
        "sampler": params.sampler, "steps": params.steps, "guidance": params.guidance,
        "autoguidance": params.autoguidance if guided else 1.0,
        "images_seen": state.images_seen, "train_images": train_images,
    }  # fmt: skip
    notes |= {"start": begun} if begun else {}
    if data.captions:
        notes["text"] = data.captions.encoder.plain()
    if space:
        notes["autoencoder"] = space.autoencoder.plain()
    if params.augment.on:
        notes["augment"] = {"seed": params.seed, "how": params.augment.model_dump(mode="json")}
    return notes


def _guide(params: TrainParams, folder: Path, network: nn.Module) -> nn.Module | None:
    """The guide: ``network`` with the averaged weights that ``folder`` holds; None where none was asked for."""
    found = averages.stored(folder)
    if params.guide is None:
        return None
    if not found:
        _log.warning("guide: training ended before image %d, so there is none", params.guide_at)
        return None
    guide = copy.deepcopy(network).cpu()
    guide.load_state_dict(guide.state_dict() | averages.first(found[0]))
    return guide


def _recipe(
    params: TrainParams, state: loop.State, guide: nn.Module | None, data: tensors.Pixels, space: spaces.Latents | None
) -> card.Recipe:  # fmt: skip
    return card.Recipe(
        autoencoder=space and space.autoencoder,
        text=data.captions.encoder if data.captions else None,
        autoguidance=params.autoguidance if guide else 1.0, guide=params.guide if guide else None,
        network=params.network.kind, objective=state.objective, images=params.total_steps * params.batch,
        ema_half_life=params.ema_half_lives[0], muon_rate=params.muon_rate if params.muon_moves else None,
        **{name: getattr(params, name) for name in (
            "batch", "learning_rate", "warmup_images", "constant_until", "final_rate", "fall", "weight_decay",
            "gradient_clip", "precision", "label_dropout", "caption_dropout", "seed", "steps", "guidance", "onnx")},
    )  # fmt: skip


def _write(
    model: Path, params: TrainParams, state: loop.State, notes: dict, words: str, skipped: list,
    adapters: dict[str, torch.Tensor], guide: nn.Module | None, *, stored: Path, captions: Captions | None,
    vae: Path | None,
) -> None:  # fmt: skip
    with files.replacing_folder(model) as folder:
        denoiser.save(folder, state.average.cpu(), state.objective, notes)
        if vae:
            shutil.copytree(vae, folder / denoiser.autoencoder_name(state.average, state.objective))
        if guide:
            denoiser.save_network(folder / registry.GUIDE, guide)
        if params.lora:
            lora.save(folder / lora.FOLDER, adapters, params.lora)
        if params.onnx:
            sigmas = samplers.log_spaced(params.steps, *state.objective.schedule.visited)
            decoder = autoencoder.load(vae) if vae else None
            portable.write(folder, state.average, state.objective, sigmas, guide, [*state.shapes], decoder)
            serving.write(folder, notes)
        if captions and params.network.kind == "unet":
            made = autoencoder.load(vae).kind if vae else None
            stable.write(folder, state.average, type(schedulers.stock(state.objective)).__name__, captions, made)
        if captions:
            prompts.write(folder, captions)
        (folder / "README.md").write_text(words, "utf-8")
        if stored.is_dir():
            shutil.copytree(stored, folder / averages.FOLDER, ignore=shutil.ignore_patterns(".*"))
        if skipped:
            denoiser.write_json(folder / "skipped.json", skipped)
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in state.history)
        (folder / "history.jsonl").write_text(lines, "utf-8")


def _skipped(params: TrainParams, state: loop.State, pixels: Path, splits: Path) -> list[dict]:
    """The images that a guard left out once, for skipped.json: place in the training, row of the pack, key."""
    if not state.guard.skips:
        return []
    rows, keys = torch.tensor(list(pack.read_split(splits, "train"))), pack.read_keys(pixels)
    places = sorted({place for first, last in state.guard.skips for place in range(first, last)})
    groups = tensors.Pixels(pixels).grouped(rows)
    shown = rows[order.of_groups(params.seed, params.batch, groups).positions(torch.tensor(places))].tolist()
    return [{"place": place, "row": row, "key": keys[row]} for place, row in zip(places, shown, strict=True)]
