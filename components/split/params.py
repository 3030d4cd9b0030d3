"""Section ``split`` of params.yaml."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from components.base.params import Params


class SplitParams(Params):
    """How much goes where; the three shares add up to 1."""

    train: float = Field(gt=0, lt=1, description="share of the groups to train on, 0..1")
    val: float = Field(gt=0, lt=1, description="share of the groups to look at while training, 0..1")
    test: float = Field(gt=0, lt=1, description="share of the groups to score on, 0..1")
    salt: str = Field(max_length=100, description="another salt is another draw: every image may move")

    @model_validator(mode="after")
    def _whole(self) -> SplitParams:
        if not math.isclose(self.train + self.val + self.test, 1.0, abs_tol=1e-9):
            raise ValueError(f"train + val + test must be 1, and is {self.train + self.val + self.test:g}")
        return self
