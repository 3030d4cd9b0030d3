"""The folder of a denoiser: the network, its sampler and what has to be known to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.diffusion.objective import Objective
from components.model import schedulers
from components.networks import registry
from components.samples import latents

if TYPE_CHECKING:
    from torch import nn


def save(
    folder: Path, network: nn.Module, objective: Objective, notes: dict[str, Any], scheduler: Any = None
) -> None:  # fmt: skip
    """Write ``network``, its sampler and ``notes`` (stillroom.json) into ``folder``; equal bytes for equals.

    ``scheduler``: of diffusers, for a student; None for the stock one of a denoiser.
    """
    from components.networks.hf import diffusers

    save_network(folder, network)
    jumps = scheduler is not None
    scheduler = scheduler or schedulers.stock(objective)
    told = registry.text_width(network) > 0
    if told and "steps_offset" in scheduler.config:  # of no effect but that its pipeline does not ask for it
        scheduler.register_to_config(steps_offset=1)
    scheduler.save_pretrained(folder / "scheduler")
    made = notes.get("autoencoder")
    drawn = _pipeline(network, objective, jumps=jumps, latents=bool(made))
    if drawn and not told:  # stable.py writes that of captions
        write_json(folder / "model_index.json", {
            "_class_name": drawn,
            "_diffusers_version": diffusers.__version__,
            "scheduler": ["diffusers", type(scheduler).__name__],
            registry.NETWORKS[registry.kind(network)].folder: ["diffusers", type(network).__name__],
            **({autoencoder_name(network, objective): ["diffusers", made["kind"]]} if made else {}),
            **({"id2label": dict(enumerate(notes["classes"]))} if drawn == "DiTPipeline" else {}),
        })  # fmt: skip
    write_json(folder / "stillroom.json", {**notes, "objective": objective.note()})


def autoencoder_name(network: nn.Module, objective: Objective) -> str:
    """The folder in which the stock pipeline that draws latents by ``network`` looks for their autoencoder."""
    return latents.VQVAE if _pipeline(network, objective, latents=True) == "LDMPipeline" else latents.VAE


def _pipeline(network: nn.Module, objective: Objective, *, latents: bool, jumps: bool = False) -> str | None:
    """The stock pipeline for ``network``; None: diffusers has none."""
    kind, labels = registry.kind(network), registry.labels(network)
    if kind == "unet" and registry.text_width(network):
        return "StableDiffusionPipeline"
    labelled = labels == registry.PIPELINES_NULL + 1 if kind == "dit" else jumps or labels > 0
    return schedulers.pipeline(objective, kind, labelled=labelled, latents=latents)


def save_network(folder: Path, network: nn.Module) -> None:
    """Write ``network`` alone, into the subfolder of ``folder`` where pipelines of diffusers have it."""
    model: Any = network  # a ModelMixin of diffusers
    model.save_pretrained(folder / registry.NETWORKS[registry.kind(network)].folder, safe_serialization=True)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as indented JSON."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
