"""Section ``report`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from components.base.params import Params


class ReportParams(Params):
    """How much the model report shows; nothing here changes the model."""

    samples_per_class: int = Field(
        ge=1, le=200, description="most samples shown for each label, and as many real images, 1 to 200; 8 are made"
    )
    films: int = Field(ge=0, le=100, description="most denoising film strips shown, 0 to 100")
    neighbours: int = Field(
        ge=0, le=500, description="most samples shown beside their nearest training image, 0 to 500"
    )
    magnify: int = Field(ge=1, le=16, description="times that a pixel is enlarged, 1 to 16")
    characters: int = Field(ge=20, le=10000, description="most characters of a name, 20 to 10000")
