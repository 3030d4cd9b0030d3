"""Autoencoders of diffusers, in a folder as diffusers saves one: pictures to latents and back.

``AutoencoderKL``, ``AutoencoderTiny`` and ``AutoencoderDC`` with their weights as safetensors.  Nothing is fetched,
nothing unpickled.

A stock pipeline divides latents by one number, ``scaling_factor``, before it decodes them, and knows no shift.  So that
such a pipeline decodes what a denoiser of normalised latents draws, :func:`normalised` puts mean and deviation into the
autoencoder itself: of an AutoencoderKL by channel, into the 1 x 1 convolutions at its middle; of the others, which
begin with a kernel that sees the zeros at the border or with a bound, one deviation as ``scaling_factor``.

Shapes: B pictures, C channels of a latent, H and W pixels, h and w places.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.base import files
from components.base.algorithms import Algorithm
from components.base.errors import UserError, brief
from components.samples import latents

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

ALGORITHM = Algorithm("autoencoder", 1, ("diffusers", "torch"))

BATCH = 8
"""Pictures that are encoded at once, always: the last bits of a convolution depend on the number."""

_PICKLED = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt", "model.ckpt")
_TINY, _SURPLUS = "AutoencoderTiny", "block_out_channels"
_MODULES = {
    "AutoencoderKL": "autoencoder_kl", "AutoencoderTiny": "autoencoder_tiny", "AutoencoderDC": "autoencoder_dc"
}  # fmt: skip


def check(folder: Path, sha256: str | None = None) -> None:
    """UserError when a file of the autoencoder is not there, or the hash of its weights is not ``sha256``."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: it is named as an autoencoder (encode.latents)")
    pickled = [name for name in _PICKLED if (folder / name).is_file()]
    if pickled and not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder / pickled[0]}: is a pickle, which can run code, and is not read: bring the autoencoder as "
            f"{WEIGHTS} (`save_pretrained` of diffusers writes it)"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: not there: an autoencoder has {CONFIG} and {WEIGHTS}")
    if sha256 is not None and (found := files.sha256(folder / WEIGHTS)) != sha256:
        raise UserError(f"{folder / WEIGHTS}: its SHA-256 is {found}, not {sha256} as in encode.latents")


def identity(folder: Path) -> str:
    """The SHA-256 of all that decides what the autoencoder says: its configuration and its weights."""
    held = {name: files.sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


class Autoencoder(nn.Module):
    """The autoencoder in a folder, in float32, for pictures with values in [-1, 1]."""

    def __init__(self, stock: Any) -> None:
        """``stock``: a model of diffusers.  ValueError when it makes no latents of pictures, or no pictures of them."""
        super().__init__()
        self.stock = stock.float().eval().requires_grad_(False)
        config = stock.config
        self.kind, self.colours = type(stock).__name__, int(config.in_channels)
        self.channels = int(config.latent_channels)
        self.scale = float(config.scaling_factor)
        if self.colours != getattr(config, "out_channels", self.colours):
            raise ValueError(f"it takes {self.colours} channels and gives {config.out_channels}")
        self.factor = _factor(stock)
        if not 0 < self.channels <= latents.WIDEST or not 0 < self.factor <= latents.MOST_FACTOR:
            raise ValueError(f"latents of {self.channels} channels, {self.factor} pixels to a place")

    @torch.no_grad()
    def encode(self, pictures_BCHW: Tensor) -> Tensor:
        """The latents of pictures, (B, C, h, w); of a distribution its middle."""
        found = self.stock.encode(pictures_BCHW)
        if hasattr(found, "latent_dist"):
            return found.latent_dist.mode() * self.scale
        return (found.latents if hasattr(found, "latents") else found.latent) * self.scale

    @torch.no_grad()
    def decode(self, latents_BChw: Tensor) -> Tensor:
        """The pictures of latents, (B, C, H, W), about in [-1, 1]."""
        return self.stock.decode(latents_BChw / self.scale).sample

    def forward(self, latents_BChw: Tensor) -> Tensor:
        """As :meth:`decode`: what is handed out as ONNX."""
        return self.decode(latents_BChw)


def load(folder: Path) -> Autoencoder:
    """The autoencoder in ``folder``; UserError when it is none that can be read."""
    check(folder)
    try:
        return Autoencoder(_stock(files.read_json_object(folder / CONFIG, "bring the autoencoder again"),
                                  folder / WEIGHTS))  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # files of anybody's: the constructors raise whatever a configuration makes them meet
        raise UserError(f"{folder}: not an autoencoder that can be read ({brief(error)})") from None


def normalised(folder: Path, mean: Sequence[float], std: Sequence[float], to: Path) -> None:
    """Write the autoencoder of ``folder`` to ``to`` with latents less ``mean``, by ``std`` (:func:`moments`)."""
    found = load(folder)
    config = {key: value for key, value in found.stock.config.items() if not key.startswith("_")}
    weights = dict(found.stock.state_dict())
    if found.kind == "AutoencoderKL":
        config |= {"scaling_factor": 1.0, "shift_factor": None, "use_quant_conv": True, "use_post_quant_conv": True}
        weights |= _folded(weights, torch.tensor(mean), torch.tensor(std), found.scale)
    else:
        config["scaling_factor"] = found.scale / float(std[0])
    stock = _built(found.kind, config)
    stock.load_state_dict(weights)
    stock.save_pretrained(to, safe_serialization=True)


def by_channel(kind: str) -> bool:
    """Whether a stock autoencoder of class ``kind`` can carry mean and deviation of each channel."""
    return kind == "AutoencoderKL"


def _folded(weights: dict[str, Tensor], mean: Tensor, std: Tensor, scale: float) -> dict[str, Tensor]:
    """The convolutions at the middle of an AutoencoderKL, float32, for latents that are normalised.

    ``mean`` and ``std`` are those of latents times ``scale``.  The first gives mean and logarithm of the variance.
    """
    count, mean, std = len(mean), mean.double() / scale, std.double() / scale
    ones = {"quant_conv": 2 * count, "post_quant_conv": count}
    own = {
        name: (weights.get(f"{name}.weight", torch.eye(size).view(size, size, 1, 1)).double(),
               weights.get(f"{name}.bias", torch.zeros(size)).double())
        for name, size in ones.items()
    }  # fmt: skip
    (into, shift), (out, last) = own["quant_conv"], own["post_quant_conv"]
    rows = torch.cat([1 / std, torch.ones(count)])
    into = into * rows.view(-1, 1, 1, 1)
    shift = torch.cat([(shift[:count] - mean) / std, shift[count:] - 2 * std.log()])
    last = last + (out[:, :, 0, 0] @ mean)
    out = out * std.view(1, -1, 1, 1)
    found = {"quant_conv.weight": into, "quant_conv.bias": shift, "post_quant_conv.weight": out,
             "post_quant_conv.bias": last}  # fmt: skip
    return {name: value.float() for name, value in found.items()}


def _stock(config: dict[str, Any], weights: Path) -> Any:
    from safetensors.torch import load_file

    found = _built(config.get("_class_name"), config)
    held = load_file(weights)
    # Weights in half precision, as many are handed out, are widened.
    found.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in held.items()})
    for name, value in found.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"weight {name} is not finite")
    return found


def _built(kind: object, config: Mapping[str, Any]) -> Any:
    # An AutoencoderTiny saves one value more than it takes, and then warns of it.
    return _class(kind).from_config({name: each for name, each in config.items() if name != _SURPLUS or kind != _TINY})


def _class(kind: object) -> Any:
    if not isinstance(kind, str) or kind not in _MODULES:
        raise ValueError(f"{kind!r:.60} is none of {', '.join(_MODULES)}")
    from components.networks import hf

    return getattr(hf.network(f"autoencoders.{_MODULES[kind]}"), kind)


def _factor(stock: Any) -> int:
    """Pixels of the edge of a square that becomes one place of a latent."""
    config = stock.config
    if type(stock).__name__ == _TINY:
        return int(config.upsampling_scaling_factor) ** (len(config.encoder_block_out_channels) - 1)
    widths = getattr(config, "block_out_channels", None) or config.encoder_block_out_channels
    return 1 << (len(widths) - 1)
