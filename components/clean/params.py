"""Section ``clean`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from components.base.params import Params

_Auto = Annotated[Literal["auto"], Tag("auto")]
_WHICH = Discriminator(lambda value: "auto" if isinstance(value, str) else "number")


class CleanParams(Params):
    """What is too small or too large, and what counts as the same picture."""

    against: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        description="sources, by name, that must not be trained on, such as a test set of others: nor is what shows "
        "the same as one of their images"
    )
    min_side: int = Field(ge=1, le=65535, description="px: the shorter side of the smallest image kept, 1..65535")
    max_pixels: int = Field(
        ge=1, le=2**31 - 1, description="px: width x height of the largest image decoded, 1..2**31-1"
    )
    max_distance: Annotated[_Auto | Annotated[int, Field(ge=0, le=128), Tag("number")], _WHICH] = Field(
        description="differing bits, of 256, up to which two images are looked at as a pair, 0..128; auto: by what the "
        "two show, and photographs by parts of them"
    )
    min_correlation: Annotated[_Auto | Annotated[float, Field(ge=0, le=1), Tag("number")], _WHICH] = Field(
        description="least correlation of luma slopes of a pair, after moving one onto the other, 0..1; auto: by what "
        "the two show"
    )
    min_inliers: int = Field(
        ge=4, le=500, description="least corners that two images from 128 px must have in common to be a pair, 4..500"
    )
    embedding: Literal["none", "efficientnet_lite0"] = Field(
        description="features by which more pairs are looked at; efficientnet_lite0 needs torch and finds crops"
    )
    min_cosine: float = Field(
        ge=0, le=1, description="least cosine of features for two images to be looked at as a pair, 0..1"
    )
    max_difference: float = Field(
        ge=0, le=1, description="largest colour difference in a 16 x 16 thumbnail for the same picture, 0..1"
    )
