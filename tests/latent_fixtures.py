"""A small autoencoder in a folder, and a pack with latents by it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_fixtures import make_pack

from components.base import files
from components.encode.params import EncodeParams, LatentsParams
from components.encode.stage import encode
from components.networks import autoencoder

SMALL: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8), "latent_channels": 4, "norm_num_groups": 4, "sample_size": 8,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
    },
    "AutoencoderDC": {
        "latent_channels": 4, "attention_head_dim": 4, "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
        "encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock", "encoder_qkv_multiscales": ((), ()),
        "decoder_qkv_multiscales": ((), ()), "decoder_norm_types": "rms_norm", "decoder_act_fns": "silu",
    },
}  # fmt: skip
"""Of each class one with random weights that halves the sides."""


def make_autoencoder(folder: Path, kind: str = "AutoencoderKL", *, seed: int = 0, **changes: Any) -> Path:
    """An autoencoder of class ``kind`` in ``folder``, as diffusers saves one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stock = autoencoder._class(kind)(**{**SMALL[kind], **changes})
    stock.save_pretrained(folder, safe_serialization=True)
    return folder


def named(folder: Path, *, mirrored: bool = False) -> EncodeParams:
    """Section encode for the latents of the autoencoder in ``folder``."""
    sha256 = files.sha256(folder / autoencoder.WEIGHTS)
    return EncodeParams(text=None, latents=LatentsParams(folder=str(folder), sha256=sha256, mirrored=mirrored))


def encoded(folder: Path, vae: Path, *, mirrored: bool = False, **paths: Path) -> dict[str, float]:
    """Run stage ``encode`` for the latents of ``paths``, a pack and its splits; its outputs are in ``folder``."""
    made = {name: folder / name for name in ("text", "latents", "facts")}
    return encode(named(vae, mirrored=mirrored), verdicts=folder / "clean", **made, **paths)


def latent_state(
    folder: Path, kind: str = "AutoencoderKL", *, mirrored: bool = False, **changes: Any
) -> dict[str, Path]:  # fmt: skip
    """A pack of pictures, its splits, and its latents by a small autoencoder."""
    pixels, splits = make_pack(folder, **changes)
    encoded(folder, make_autoencoder(folder / "autoencoder", kind), mirrored=mirrored, pixels=pixels, splits=splits)
    return {"pixels": pixels, "splits": splits, "latents": folder / "latents"}


def recorded() -> list[np.ndarray]:
    """Latents and pictures by an autoencoder of each class, as it comes and normalised: for tests/recorded.py."""
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in SMALL:
            own, made = make_autoencoder(Path(scratch) / kind, kind), Path(scratch) / f"{kind} made"
            autoencoder.normalised(own, (0.5, -1.0, 0.0, 2.0), (0.2, 1.5, 4.0, 1.0), made)
            for folder in (own, made):
                latents = autoencoder.load(folder).encode(pictures)
                found += [latents.numpy(), autoencoder.load(folder).decode(latents).numpy()]
    return found
