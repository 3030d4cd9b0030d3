"""What makes a folder with a U-Net that reads captions a Stable Diffusion pipeline of diffusers, which loads it alone.

``text_encoder/`` and ``tokenizer/`` are those of the captions it was trained with.  The pipeline draws latents and has
an autoencoder decode them; here they are pixels, so ``vae/`` is one that hands them on: the smallest
``AutoencoderTiny``, with weights set by hand.  It bends values by at most 4e-6 of a pixel's range, its ``tanh`` being
nearly straight where :data:`_SCALE` leaves them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.base import files
from components.base.errors import UserError
from components.dataset.told import Captions
from components.embed import sentences
from components.model import prompts
from components.networks import registry
from components.samples import texts

if TYPE_CHECKING:
    from torch import nn

TOKENIZER, AUTOENCODER = "tokenizer", "vae"
FOLDERS = (prompts.FOLDER, TOKENIZER, AUTOENCODER)
"""Beside the network and its scheduler."""

_SCALE = 100.0


def encoder(told: Captions) -> Path:
    """The folder of the text encoder; UserError where it is a package's that is not installed, or another version."""
    beside = told.folder / texts.ENCODER
    if beside.is_dir():
        return beside
    place = sentences.minilm()
    if sentences.identity(place) != told.encoder.sha256:
        raise UserError(f"{sentences.PACKAGE}: not the version by which data/text was made: run stage 'encode' again, "
                        "or install that version")  # fmt: skip
    return place


def write(folder: Path, network: nn.Module, scheduler: str, told: Captions, autoencoder: str | None = None) -> None:
    """Write into the model's ``folder``, which has the network and ``scheduler``, all else that the pipeline needs.

    ``autoencoder``: the class in diffusers of the one that lies there already, of a network of latents.
    """
    from components.networks.hf import diffusers

    place = encoder(told)
    sentences.copy(place, folder / prompts.FOLDER, masked=True)
    _write_tokenizer(folder / TOKENIZER, place, told.encoder.tokens)
    if autoencoder is None:
        _write_autoencoder(folder / AUTOENCODER, registry.sample_shape(network)[0], diffusers.__version__)
    _json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None], "image_encoder": [None, None], "requires_safety_checker": False,
        "safety_checker": [None, None], "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", sentences.class_name(place)],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "unet": ["diffusers", type(network).__name__],
        "vae": ["diffusers", autoencoder or "AutoencoderTiny"],
    })  # fmt: skip


def _write_tokenizer(folder: Path, place: Path, tokens: int) -> None:
    folder.mkdir()
    shutil.copyfile(place / sentences.TOKENIZER, folder / sentences.TOKENIZER)
    padding = sentences.Encoder(place).padding
    _json(folder / "tokenizer_config.json", {
        "clean_up_tokenization_spaces": False, "model_max_length": tokens, "pad_token": padding.token,
        "padding_side": "right", "tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": "right",
    })  # fmt: skip


def _write_autoencoder(folder: Path, channels: int, version: str) -> None:
    """An autoencoder whose latents are the pixels, divided by ``scaling_factor``.

    Encoder and decoder map pixels from [-1, 1] to [0, 1] and back around their layers, of which only the middles of
    the kernels are not zero.  The decoder's first layer gives +x and -x, so that what its ReLU takes from the one is in
    the other.
    """
    from safetensors.torch import save_file

    folder.mkdir()
    one, none = torch.eye(channels), torch.zeros(channels)
    layers = {
        "encoder.layers.0": (torch.cat([one, 0 * one]), torch.cat([none, none])),
        "encoder.layers.1": (torch.cat([2 / _SCALE * one, 0 * one], 1), none - 1 / _SCALE),
        "decoder.layers.0": (torch.cat([one, -one]), torch.cat([none, none])),
        "decoder.layers.2": (torch.cat([_SCALE / 2 * one, -_SCALE / 2 * one], 1), none + 0.5),
    }
    weights: dict[str, Tensor] = {}
    for name, (middle, bias) in layers.items():
        kernel = torch.zeros(*middle.shape, 3, 3)
        kernel[:, :, 1, 1] = middle
        weights |= {f"{name}.weight": kernel, f"{name}.bias": bias}
    save_file(weights, folder / registry.WEIGHTS, metadata={"format": "pt"})
    wide = [2 * channels]
    _json(folder / registry.CONFIG, {
        "_class_name": "AutoencoderTiny", "_diffusers_version": version, "act_fn": "relu",
        "decoder_block_out_channels": wide, "encoder_block_out_channels": wide, "force_upcast": False,
        "in_channels": channels, "latent_channels": channels, "latent_magnitude": 3, "latent_shift": 0.5,
        "num_decoder_blocks": [0], "num_encoder_blocks": [0], "out_channels": channels, "scaling_factor": _SCALE,
        "shift_factor": 0.0, "upsample_fn": "nearest", "upsampling_scaling_factor": 2,
    })  # fmt: skip


def _json(path: Path, content: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(content, indent=2) + "\n")
