"""Section ``distil`` of params.yaml: how a denoiser becomes a student that samples in few steps."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.base.params import Params


class DistilParams(Params):
    """How `stillroom distil` trains a student and compares it with its teacher."""

    seed: int = Field(ge=0, lt=2**31, description="start of every random number, 0..2^31-1")
    images: int = Field(ge=1, le=10**12, description="images shown in all, the budget, 1..10^12")
    batch: int = Field(ge=1, le=65536, description="images of one optimiser step, 1..65536")
    steps: int = Field(ge=1, le=16, description="in which the student draws, 1..16")
    substeps: int = Field(ge=1, le=64, description="of the teacher for each step of the student, 1..64")
    learning_rate: float = Field(gt=0, le=1, description="of AdamW, falling in a line to zero, 0..1")
    gradient_clip: float = Field(gt=0, description="largest norm of a step's gradient, above 0")
    ema_half_life: float = Field(gt=0, le=1, description="of the averaged weights, as a share of the images seen, 0..1")
    checkpoint_images: int = Field(ge=1, le=10**12, description="images between two checkpoints, 1..10^12")
    samples: int = Field(ge=4, le=10**7, description="pictures by which teacher and student are compared, 4..10^7")

    @model_validator(mode="after")
    def _agree(self) -> DistilParams:
        if self.images < self.batch:
            raise ValueError(f"images {self.images} is less than one batch of {self.batch}")
        return self
