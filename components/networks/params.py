"""Sections ``train.network`` and ``train.lora`` of params.yaml: the networks and adapters; without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.base.params import Params

Width = Annotated[int, Field(ge=8, le=4096)]
Widths = Annotated[
    tuple[Width, ...], Field(min_length=1, max_length=8, description="channels at each resolution, halving")
]


class CompactParams(Params):
    """A compact U-Net, for CPUs and the edge."""

    kind: Literal["compact"]
    widths: Widths
    layers: int = Field(ge=1, le=16, description="residual blocks at each resolution, 1..16")
    fold: Literal[1, 2, 4] = Field(description="pixels of a square's edge that become channels: 1, 2 or 4")
    skip_sigma: float = Field(
        gt=0,
        le=1,
        description="noise level above which the image is drawn anew and below which the noise is taken out, 0..1",
    )


class UnetParams(Params):
    """A `UNet2DModel` of diffusers."""

    kind: Literal["unet"]
    widths: Widths
    layers_per_block: int = Field(ge=1, le=8, description="residual layers at each resolution, 1..8")


class DitParams(Params):
    """A `DiTTransformer2DModel` of diffusers, a diffusion transformer, for GPUs."""

    kind: Literal["dit"]
    patch: int = Field(ge=1, le=64, description="pixels of the edge of a square that becomes a token, 1..64")
    width: int = Field(ge=8, le=8192, description="channels of a token, a multiple of 4 and of heads, 8..8192")
    depth: int = Field(ge=1, le=128, description="blocks, 1..128")
    heads: int = Field(ge=1, le=256, description="attention heads, 1..256")


NetworkParams = Annotated[CompactParams | UnetParams | DitParams, Field(discriminator="kind")]


class LoraParams(Params):
    """Low-rank adapters in place of training every weight."""

    rank: int = Field(ge=1, le=1024, description="of the adapters, 1..1024")
    alpha: float = Field(gt=0, description="their scale is alpha / rank, above 0")
    targets: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description="names, or ends of names, of the linear layers and convolutions that get one"
    )
