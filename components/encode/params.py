"""Section ``encode`` of params.yaml."""

from __future__ import annotations

from pydantic import Field, field_validator

from components.base.params import Params, explained
from components.samples.captions import MOST


class TextParams(Params):
    """Which captions the pictures get."""

    template: str | None = Field(
        max_length=200, description="the caption of a picture that has a label and none of its own, such as "
        "`a picture of {label}`; null: such a picture has none"
    )  # fmt: skip
    separator: str | None = Field(
        min_length=1, max_length=20, description="what lies between several captions in one text, such as `\\n`; null: "
        "a text is one caption"
    )  # fmt: skip
    characters: int = Field(ge=8, le=MOST, description=f"a longer caption is cut after a word, 8..{MOST}")

    @field_validator("template")
    @classmethod
    def _names_the_label(cls, given: str | None) -> str | None:
        if given is not None and "{label}" not in given:
            raise explained(f"{given!r:.60} must have {{label}} in it: `a picture of {{label}}`, or be null")
        return given


class EncodeParams(Params):
    """What pictures are told with beside their label."""

    text: TextParams | None = Field(description="captions of the pictures; null: none, and the stage does nothing")
