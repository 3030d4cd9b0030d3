"""Section ``profile`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.base.params import Params


class ProfileParams(Params):
    """How the data set is summed up."""

    embedding: Literal["efficientnet_lite0", "colours"] = Field(
        description="efficientnet_lite0: what is shown, by a pretrained network; colours: colours and edges, no network"
    )
    images: int = Field(ge=10, le=4000, description="most pictures embedded, chosen by their hash, 10..4000")
