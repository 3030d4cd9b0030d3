"""Section ``train`` of params.yaml: the one recipe, in images, pixels and shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from components.base.params import Params, explained
from components.dataset.params import AugmentParams
from components.diffusion import names
from components.networks.params import LoraParams, NetworkParams

if TYPE_CHECKING:
    from components.diffusion.objective import Objective
    from components.diffusion.schedule import SigmaDistribution


class GuardParams(Params):
    """When a training goes back to a checkpoint because its loss or gradient leapt."""

    spike: float | None = Field(
        ge=1, description="a loss or gradient norm so many median absolute deviations above the median of the last "
        "steps is a spike, 1 or more; null: nothing is"
    )  # fmt: skip
    window: int = Field(ge=8, le=10000, description="steps whose median that is, 8..10000")
    give_up: int = Field(ge=0, le=1000, description="so often it goes back, then it ends, 0..1000")


class TrainParams(Params):
    """How the denoiser is trained and how its samples are drawn unless somebody says otherwise."""

    seed: int = Field(ge=0, lt=2**31, description="start of every random number, 0..2^31-1")
    images: int = Field(ge=1, le=10**12, description="images shown in all, the budget, 1..10^12")
    batch: int = Field(ge=1, le=65536, description="images of one step over all ranks, a multiple of ranks")
    ranks: int = Field(
        ge=1, le=64, description="processes of one thread each; with CUDA one for each GPU instead, which the log says"
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        description="of the network's arithmetic: bf16, fp32, fp16 with scaled losses; auto is bf16 where the "
        "hardware has it and fp32 elsewhere"
    )
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        description="images that a rank computes at once, 1 or more; more are added up. auto: all of its share, on "
        "CUDA the largest power of two that fits into memory"
    )
    recompute: bool = Field(
        description="whether the backward pass computes activations again: a step takes a third longer and much less "
        "memory"
    )  # fmt: skip
    compile: Literal["auto"] | bool = Field(
        description="whether torch.compile compiles the network; auto: when it saves more time than it takes"
    )
    sharding: Literal["none", "full"] = Field(
        description="full cuts weights, gradients, optimiser and averages over the ranks (FSDP2), for networks that "
        "do not fit one device"
    )
    network: NetworkParams = Field(description="what is trained")
    lora: LoraParams | None = Field(description="adapters trained in place of the weights, or null; needs a start")
    objective: names.Objective = Field(description="what the network predicts")
    schedule: names.Schedule = Field(
        description="of the noise; eps: linear, cosine or exponential; x0, v: linear or cosine; edm: log_normal; "
        "flow: logit_normal"
    )
    levels: names.Distribution = Field(
        description="which noise levels training meets: the schedule's own, a flow's time uniformly, or log sigma "
        "normally"
    )
    level_mean: float = Field(ge=-10, le=10, description="mean of log sigma where levels is normal")
    level_std: float = Field(gt=0, le=10, description="standard deviation of log sigma where levels is normal")
    weighting: names.Weighting = Field(
        description="of the squared error by noise level: plain is that of the network's own output"
    )
    learning_rate: float = Field(gt=0, le=1, description="of AdamW after the warm-up, 0..1")
    muon_rate: float = Field(
        ge=0, le=1, description="learning rate of Muon, which moves kernels and matrices in the blocks, 0..1; with 0, "
        "LoRA or sharding full AdamW moves all"
    )  # fmt: skip
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        description="of AdamW: shares of its mean gradient and mean square that a step keeps, 0..1"
    )
    epsilon: float = Field(ge=1e-30, le=1, description="of AdamW: added to the root of its mean square, 1e-30..1")
    weight_decay: float = Field(
        ge=0, le=1, description="of matrices and convolution kernels by both, a share of the learning rate, 0..1; "
        "norms, biases and embeddings have none"
    )  # fmt: skip
    warmup_images: int = Field(ge=0, le=10**12, description="images over which the learning rate rises, 0..10^12")
    constant_until: float = Field(ge=0, le=1, description="share of the images after which the rate falls, 0..1")
    final_rate: float = Field(ge=0, le=1, description="learning rate at the end as a share, 0..1")
    fall: Literal["linear", "cosine"] = Field(
        description="of the learning rate from constant_until to the end; constant_until 1 keeps it constant"
    )
    gradient_clip: float = Field(gt=0, description="largest norm of a step's gradient, above 0")
    ema_half_lives: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(
            min_length=1,
            max_length=8,
            description="of averages of the weights, as shares of the images seen, 0..1; the first is handed out",
        ),
    ]
    ema_snapshots: int = Field(
        ge=0, le=1000, description="so often all averages are stored with the model, in half precision, for averages "
        "of any other length (`stillroom ema`), 0..1000; two half-lives and 16 are enough"
    )  # fmt: skip
    guide: float | None = Field(
        gt=0, lt=1, description="share of the images, 0..1, after which the averaged weights are kept as the guide, a "
        "weaker model that samples are led away from (autoguidance); null: none"
    )  # fmt: skip
    label_dropout: float = Field(
        ge=0, lt=1, description="share of images shown without their label, for guidance, 0..1"
    )
    conditions: tuple[Literal["label", "text"], ...] = Field(
        max_length=2, description="what the network is told beside the noise level, where the data have it: label, "
        "text (of section encode), both or nothing"
    )  # fmt: skip
    caption_dropout: float = Field(
        ge=0, lt=1, description="share of images shown without their caption, for guidance, 0..1; where label_dropout "
        "is larger, the rest of that share has a caption and no label"
    )  # fmt: skip
    space: Literal["pixels", "latents"] = Field(
        description="what it is trained on: the pack's pictures, or their latents (encode.latents)",
    )
    augment: AugmentParams = Field(description="what is done to the images of training; 0 everywhere is nothing")
    guard: GuardParams = Field(description="against a loss or gradient that leaps")
    loaders: int = Field(
        ge=0,
        le=64,
        description="processes of a rank that gather images ahead of the step, 0..64; 0: the step itself",
    )
    keep: int = Field(ge=1, le=100, description="checkpoints that are kept, 1..100")
    patience: int | None = Field(
        ge=1, le=1000, description="checks without a better x0 error after which training ends; the best weights of a "
        "check are then the outcome; null: it goes to its end and the last are"
    )  # fmt: skip
    checkpoint_images: int = Field(
        ge=1,
        le=10**12,
        description="images between two checkpoints, 1..10^12; on one GPU they take at most a twentieth of the time",
    )
    validate_images: int = Field(ge=1, le=10**9, description="validation images of each check of the x0 error, 1..10^9")
    sheet: int = Field(
        ge=0, le=256, description="pictures drawn at each check, for who watches: in .stillroom/train/samples and in "
        "MLflow, 0..256; 0: none"
    )  # fmt: skip
    profile: int = Field(
        ge=0, le=100, description="steps whose time torch's profiler records, to .stillroom/train and MLflow, 0..100"
    )  # fmt: skip
    validations: int = Field(ge=1, le=1000, description="how often the x0 error is checked, 1..1000")
    sampler: names.Sampler = Field(description="by which samples are drawn; what each is: docs/sampling.md")
    steps: int = Field(ge=1, le=1000, description="of the sampler, 1..1000; dpmpp_2m calls the network once for each")
    guidance: float = Field(ge=0, le=50, description="pull of samples towards their label; 1 is none, 0..50")
    autoguidance: float = Field(ge=1, le=50, description="push of samples away from the guide; 1 is none, 1..50")
    onnx: bool = Field(
        description="whether the network is written as ONNX too, for those without our code; compact always needs it"
    )

    @model_validator(mode="after")
    def _agree(self) -> TrainParams:
        if self.batch % self.ranks:
            raise explained(f"batch {self.batch} is not a multiple of ranks {self.ranks}")
        if self.images < self.batch:
            raise explained(f"images {self.images} is less than one batch of {self.batch}")
        if len(self.ema_half_lives) > 1 and not self.ema_snapshots:
            raise explained(
                "several ema_half_lives are of use with ema_snapshots above 0 alone: give one, or store them"
            )
        if self.guide is None and self.autoguidance != 1:
            raise explained(f"autoguidance {self.autoguidance:g} needs a guide: set guide to 0.125, or it to 1")
        if self.guide is not None and self.lora is not None:
            raise explained("guide: none is kept of adapters (lora): set it to null, and autoguidance to 1")
        if len(set(self.conditions)) < len(self.conditions):
            raise explained(f"conditions {', '.join(self.conditions)}: name each once")
        if self.sharding == "full" and self.precision == "fp16":
            raise explained("sharding full needs precision bf16 or fp32, not fp16")
        return self

    @model_validator(mode="after")
    def _sampled(self) -> TrainParams:
        names.check(self.objective, self.schedule)
        if self.augment.labelled and self.network.kind != "compact":
            raise explained(
                f"augment.label needs network.kind compact, which takes augmentation labels, not {self.network.kind}: "
                "take augment.label false"
            )
        if self.network.kind == "compact" and self.objective != "v":
            raise explained(f"network compact predicts v, not {self.objective}")
        if self.network.kind == "dit" and self.schedule == "exponential":
            raise explained("network dit cannot tell the noise levels of schedule exponential apart: take network unet")
        if self.network.kind == "compact" and not self.onnx:
            raise explained("onnx false, but nobody could run network compact without our code: set it to true")
        return self

    def objective_at(self, sigma_data: float) -> Objective:
        """The objective with its schedule, for data of that standard deviation."""
        from components.diffusion import objective as objectives  # torch: the parameters load without it

        return objectives.objective(self.objective, self.schedule, sigma_data)

    @property
    def muon_moves(self) -> bool:
        """Whether Muon moves anything."""
        return self.muon_rate > 0 and self.sharding == "none" and self.lora is None

    @property
    def sigma_distribution(self) -> SigmaDistribution:
        """The distribution of noise levels in training."""
        from components.diffusion.objective import objective
        from components.diffusion.schedule import SigmaDistribution

        if self.levels == "schedule":
            return objective(self.objective, self.schedule).own_distribution()
        return SigmaDistribution(self.levels, self.level_mean, self.level_std)

    @property
    def total_steps(self) -> int:
        """Optimiser steps in all."""
        return self.images // self.batch

    @property
    def guide_at(self) -> int | None:
        """The images after which the guide is kept, a whole number of steps."""
        return None if self.guide is None else max(1, round(self.total_steps * self.guide)) * self.batch

    def rate(self, images_seen: int) -> float:
        """The learning rate of AdamW in the step that starts after ``images_seen``."""
        return self.learning_rate * self.pace(images_seen)

    def pace(self, images_seen: int) -> float:
        """The share of the learning rates that a step takes: up, constant, down in a line or half a cosine."""
        done = images_seen / (self.total_steps * self.batch)
        warm = min(1.0, (images_seen + self.batch) / self.warmup_images) if self.warmup_images else 1.0
        fall = max(0.0, done - self.constant_until) / max(1e-9, 1 - self.constant_until)
        if self.fall == "cosine":
            fall = (1 - math.cos(math.pi * fall)) / 2
        return warm * (1 - (1 - self.final_rate) * fall)
