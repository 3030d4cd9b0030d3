"""Section ``describe`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from components.base.params import Params


class DescribeParams(Params):
    """How much the data report shows; nothing here changes the data."""

    thumbnails: int = Field(ge=0, le=5000, description="most pictures in each list of the report, 0 to 5000")
    thumbnail_side: int = Field(ge=16, le=128, description="side of a source's thumbnail, pixels, 16 to 128")
    group_members: int = Field(ge=2, le=200, description="most pictures shown of one group, 2 to 200")
    seen_per_class: int = Field(ge=0, le=200, description="pictures of the pack shown for each label, 0 to 200")
    map_points: int = Field(ge=0, le=4000, description="most pictures on the embedding map, 0 to 4000")
    rows: int = Field(ge=1, le=10000, description="most rows in each table of the report, 1 to 10000")
    characters: int = Field(ge=20, le=10000, description="most characters of a name or caption, 20 to 10000")
