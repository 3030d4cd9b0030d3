"""Section ``distil`` of params.yaml: how a denoiser becomes a student that samples in few steps."""

from __future__ import annotations

from pydantic import Field

from components.base.params import Params


class DistilParams(Params):
    """How `stillroom distil` tunes a student and compares it with its teacher; section train says the rest."""

    seed: int = Field(ge=0, lt=2**31, description="start of every random number, 0..2^31-1")
    images: int = Field(ge=1, le=10**12, description="images shown in all, the budget, 1..10^12")
    steps: int = Field(ge=1, le=16, description="in which the student draws, one call of the network each, 1..16")
    gap: float = Field(
        gt=0, le=1, description="between the two noise levels of a pair at the start, as a share of the upper, 0..1"
    )
    halvings: int = Field(ge=0, le=16, description="of the gap, at even distances over the training, 0..16")
    rate: float = Field(gt=0, le=1, description="learning rates, as a share of those of section train, 0..1")
    samples: int = Field(ge=4, le=10**7, description="pictures by which teacher and student are compared, 4..10^7")
