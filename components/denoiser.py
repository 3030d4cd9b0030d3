"""The network and its folder: a diffusers pipeline that loads with diffusers alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import diffusion
from components.errors import UserError

if TYPE_CHECKING:
    from diffusers import DPMSolverMultistepScheduler, UNet2DModel

ATTENTION_SIDE = 8
"""Pixels: attention at this resolution and below (64 tokens); above it costs more than it brings."""

NORM_GROUPS = 8

HEAD = 32
"""Channels of an attention head."""


def build(*, side: int, channels: int, classes: int, widths: Sequence[int], layers_per_block: int) -> UNet2DModel:
    """A fresh network for square images; with ``classes`` > 0 it takes labels 0..classes (last: none)."""
    from diffusers import UNet2DModel

    _check(side, widths)
    attends = [side >> level <= ATTENTION_SIDE for level in range(len(widths))]
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        attention_head_dim=HEAD,
        norm_num_groups=NORM_GROUPS,
        num_class_embeds=classes + 1 if classes else None,
    )


def _check(side: int, widths: Sequence[int]) -> None:
    if side % (1 << (len(widths) - 1)):
        raise UserError(
            f"train.widths has {len(widths)} levels, which need a side that {1 << (len(widths) - 1)} divides, "
            f"not {side} pixels: give fewer widths, or change resize.side"
        )
    for level, width in enumerate(widths):
        wanted = HEAD if side >> level <= ATTENTION_SIDE else NORM_GROUPS
        if width % wanted:
            raise UserError(f"train.widths: {width}, at {side >> level} pixels, is not a multiple of {wanted}")


def scheduler() -> DPMSolverMultistepScheduler:
    """The sampler that is saved with the network: DPM-Solver++(2M) on the training's schedule."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=diffusion.TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Equal steps of log sigma. Equal steps of time leave Gaussians of std 0.1 at 0.6 of their width after 12.
        use_lu_lambdas=True,
    )


def save(folder: Path, network: UNet2DModel, notes: dict[str, Any]) -> None:
    """Write ``network``, its sampler and ``notes`` (stillroom.json) into ``folder``; equal bytes for equals."""
    import diffusers

    network.save_pretrained(folder / "unet", safe_serialization=True)
    scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",  # the one that takes any scheduler as it is
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    write_json(folder / "model_index.json", index)
    write_json(folder / "stillroom.json", notes)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as indented JSON."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
