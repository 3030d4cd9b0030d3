"""Stronger judges of pictures, by weights that a user has; nothing is fetched, and none is used unless asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from components.base import files
from components.base.errors import UserError, brief
from components.embed import dinov2, inception

Network = Literal["inception", "dinov2"]

OF_FID = "6726825d"
"""The SHA-256 of the weights that FID is defined with begins so: pytorch-fid and torch-fidelity hand out that file."""

_BUILD: dict[Network, Callable[[dict[str, Tensor]], nn.Module]] = {
    "inception": inception.network, "dinov2": dinov2.network,
}  # fmt: skip
_BATCH = 16


@dataclass(frozen=True)
class Judge:
    """A network, and the file of its weights: safetensors, or what `torch.save` made of a state dict."""

    network: Network
    weights: str
    sha256: str

    @property
    def frechet(self) -> str:
        """What the Fréchet distance of its features is called: ``fid`` for the network and weights of FID alone."""
        return "fid" if self.network == "inception" and self.sha256.startswith(OF_FID) else "fd"


def check(judge: Judge) -> None:
    """UserError unless the file is there and has the hash that was named."""
    path = Path(judge.weights)
    if not path.is_file():
        raise UserError(f"{path}: no such file: it is named as the weights of {judge.network} (evaluate.judges)")
    if (found := files.sha256(path)) != judge.sha256:
        raise UserError(f"{path}: its SHA-256 is {found}, not {judge.sha256} as in evaluate.judges")


def network(judge: Judge) -> nn.Module:
    """The network, ready to use; UserError when the weights are not its own.  No code in the file is run."""
    path = Path(judge.weights)
    try:
        found = _BUILD[judge.network](_read(path))
    except Exception as error:  # a file of anybody's: safetensors and torch raise whatever it makes them meet
        raise UserError(f"{path}: not the weights of {judge.network} ({brief(error)})") from None
    return found.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


@torch.no_grad()
def of(net: nn.Module, images_NHWC: Tensor) -> Tensor:
    """The features of uint8 pictures (grey ones count as RGB), float32 (N, D), computed where ``net`` lies."""
    found, device = [], next(net.parameters()).device
    for some in images_NHWC.split(_BATCH):
        pixels = some.to(device).permute(0, 3, 1, 2)
        pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]
        found.append(net(pixels).float().cpu())
    return torch.cat(found)
