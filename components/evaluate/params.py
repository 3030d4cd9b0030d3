"""Section ``evaluate`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from components.base.params import Params, explained
from components.diffusion import names


class JudgeParams(Params):
    """A stronger judge, by weights that a user has."""

    network: Literal["inception", "dinov2"] = Field(
        description="inception: that of FID, 2048 features; dinov2: ViT-S, B or L of 14 pixels a patch, its class token"
    )
    weights: str = Field(
        min_length=1, max_length=400,
        description="file of its weights, seen from the checkout: .safetensors, or a state dict by torch.save",
    )  # fmt: skip
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of that file, 64 hex digits")


class WayParams(Params):
    """A way of drawing that a sweep compares."""

    steps: int = Field(ge=1, le=1000, description="of the sampler, 1..1000")
    sampler: names.Sampler = Field(description="what each is: docs/sampling.md")
    guidance: float = Field(ge=0, le=50, description="pull towards the label; 1 is none, 0..50")
    autoguidance: float = Field(ge=1, le=50, description="push away from the guide; 1 is none, 1..50")


_Way = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag("steps")] | Annotated[WayParams, Tag("way")],
    Discriminator(lambda given: "way" if isinstance(given, dict | WayParams) else "steps"),
]


class EvaluateParams(Params):
    """How much is measured."""

    seed: int = Field(ge=0, lt=2**31, description="start of every random number, 0..2^31-1")
    samples: int = Field(ge=4, le=10**7, description="pictures drawn, in the training's mix of classes, 4..10^7")
    replicates: int = Field(ge=10, le=10**5, description="bootstrap samples behind each interval, 10..10^5")
    confidence: float = Field(gt=0, lt=1, description="share of replicates inside an interval, 0..1")
    memorised_rmse: float = Field(
        ge=0, le=1, description="samples this close to a training image are memorised; rmse of values in 0..1"
    )
    memorised_ratio: float = Field(
        ge=0, le=1,
        description="samples that come this much nearer to a training image than 95 of 100 held-out images (of their "
        "class, if it has 20) are memorised, too; a share of that distance, 0..1, 0 for memorised_rmse alone",
    )  # fmt: skip
    sweep: tuple[_Way, ...] = Field(
        max_length=40,
        description="numbers of sampling steps, each 1..1000, or ways of drawing, to draw 128 pictures in and compare; "
        "[] = off; the cheapest that is not worse than the best beyond chance is scored, and registered in place of "
        "that of section train",
    )
    judges: tuple[JudgeParams, ...] = Field(
        max_length=2, description="stronger judges beside EfficientNet-Lite0, each network once at most; [] = none"
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({judge.network for judge in self.judges}) != len(self.judges):
            raise explained("judges name one network twice")
        return self
