"""Section ``contract`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from components.base.params import Params


class ContractParams(Params):
    """What the data must satisfy before a pipeline run trains; changing this section makes no stage stale."""

    min_images: int = Field(ge=0, le=10**12, description="kept images at least, 0..10^12")
    max_rejected: float = Field(
        ge=0, le=1, description="share of what came in that was rejected or refused at most, 0..1"
    )
    max_unreached: float | None = Field(
        ge=0, le=1, description="share of a source's addresses that gave no image at most, 0..1; null: any"
    )
    max_duplicates: float | None = Field(
        ge=0, le=1, description="share of what came in that shows what another image shows at most, 0..1; null: any"
    )
    min_captioned: float = Field(ge=0, le=1, description="share of the kept images that have a caption at least, 0..1")
    licences: tuple[str, ...] | None = Field(description="every licence that kept images may have; null: any")
    labels: tuple[str, ...] | None = Field(description="every label that is expected, and no other; null: any")
    min_class: int = Field(ge=0, le=10**12, description="kept images of the smallest label at least, 0..10^12")
    max_lost: float | None = Field(
        ge=0,
        le=1,
        description="share of the images of a source, and of a label, that were kept at the last registered pipeline "
        "run and are not kept now at most, 0..1; null: any",
    )
    max_shift: float | None = Field(
        ge=0,
        description="distance of the embedding's mean from that of the last registered pipeline run at most, in "
        "units of the spread of its images, beyond what chance gives; null: any",
    )
    max_label_shift: float | None = Field(
        ge=0, description="the same distance for the images of each label, of the one that moved most; null: any"
    )
