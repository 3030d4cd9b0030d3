"""Section ``resize`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.base.params import Params


class ResizeParams(Params):
    """The size of the pictures that the network learns from."""

    side: int = Field(ge=8, le=1024, description="px: width and height of every picture, 8..1024")
    fit: Literal["pad", "crop"] = Field(
        description="pad: the whole picture, the matte around it; crop: the middle square of it"
    )
