"""Section ``train.augment`` of params.yaml: what is done to the images of training; without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.base.params import Params


class ColourParams(Params):
    """Changes of colour, each drawn uniformly on both sides of none; 0 is off."""

    brightness: float = Field(ge=0, le=1, description="most that is added, of the range from black to white, 0..1")
    contrast: float = Field(ge=0, lt=1, description="most by which distance from mid-grey changes, as a share, 0..1")
    saturation: float = Field(ge=0, le=1, description="most by which distance from grey changes, as a share, 0..1")
    hue: float = Field(ge=0, le=0.5, description="most of a full turn around the grey axis, 0..0.5")


class AugmentParams(Params):
    """What happens to the images of training; 0 is off."""

    horizontal_flip: float = Field(ge=0, le=1, description="share of images turned left to right, 0..1")
    vertical_flip: float = Field(ge=0, le=1, description="share of images turned upside down, 0..1")
    rotate: float = Field(ge=0, le=180, description="most degrees of a rotation to either side, 0..180")
    crop: float = Field(ge=0, lt=1, description="most of the side that is cut away before enlarging, 0..1")
    colour: ColourParams = Field(description="changes of colour")
    probability: float = Field(
        ge=0, le=1, description="share of images that meet each of rotation, crop and changes of colour, 0..1"
    )
    fill: Literal["edge", "mean"] = Field(
        description="outside of a rotated image: its edge drawn on, or the mean of its border"
    )
    label: bool = Field(
        description="tell the network what was done, so that samples do not show it; network kind compact only"
    )

    @property
    def on(self) -> bool:
        """Whether anything is ever done to an image."""
        share = self.probability and (self.rotate or self.crop or any(self.colour.model_dump().values()))
        return bool(self.horizontal_flip or self.vertical_flip or share)

    @property
    def labelled(self) -> bool:
        """Whether the network gets augmentation labels."""
        return self.on and self.label
