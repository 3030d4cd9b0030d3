"""Section ``resize`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from components.base.params import Params, explained


class BucketParams(Params):
    """Pictures of several shapes, all of about the same area: each is cut as little as its shape needs."""

    kind: Literal["buckets"]
    step: int = Field(
        ge=2, le=256, description="px: both sides of every shape are multiples of it, 2..256; for a U-Net one of 2 to "
        "the number of its halvings"
    )  # fmt: skip
    max_aspect: float = Field(
        ge=1, le=8, description="shapes whose long side over short side is more are left out, 1..8"
    )


_Fit = Annotated[
    Annotated[Literal["pad", "crop"], Tag("square")] | Annotated[BucketParams, Tag("buckets")],
    Discriminator(lambda given: "buckets" if isinstance(given, dict | BucketParams) else "square"),
]


class ResizeParams(Params):
    """The size of the pictures that the network learns from."""

    side: int = Field(ge=8, le=1024, description="px: width and height of every picture, 8..1024; of buckets the root "
                      "of the largest area")  # fmt: skip
    fit: _Fit = Field(
        description="pad: the whole picture, the matte around it; crop: the middle square of it; "
        "{kind: buckets, step, max_aspect}: the middle of it in the shape that is nearest to its own"
    )

    @field_validator("fit", mode="before")
    @classmethod
    def _spelled(cls, given: Any) -> Any:
        if given == "buckets":
            raise explained("buckets needs two numbers more: {kind: buckets, step: 32, max_aspect: 2.0}")
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if isinstance(self.fit, BucketParams) and self.side % self.fit.step:
            raise explained(f"side {self.side} is not a multiple of fit.step {self.fit.step}: change one of them")
        return self
