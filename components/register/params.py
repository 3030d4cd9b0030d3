"""Section ``register`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.base.params import Params


class RegisterParams(Params):
    """What a candidate must show before the alias moves to it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="of the registered model, letters and digits")
    confidence: float = Field(gt=0, lt=1, description="share of replicates inside the interval, 0..1")
    margin: float = Field(ge=0, lt=1, description="relative fall of the x0 error that is asked for at least, 0..1")
    max_memorised: float = Field(
        ge=0, le=1, description="share of memorised samples allowed above that of real images, 0..1"
    )
    min_class_accuracy: float = Field(
        ge=0, le=1,
        description="a class whose samples are recognised less often than this share of what its held-out images are "
        "(and than chance explains, in 20 samples or more) has collapsed, 0..1; 0 = off",
    )  # fmt: skip
    max_slowdown: float | None = Field(
        ge=1, le=1000, description="seconds an image at most this times those of the champion, 1..1000; null = off"
    )
    licences: list[str] | None = Field(
        description="licences that the sources of the images may have, as section collect names them; null = any"
    )
    approval: Literal["automatic", "person"] = Field(
        default="automatic",
        description="automatic: the gate's winner becomes champion; person: it becomes challenger, and waits for "
        "`stillroom promote --approve`",
    )
    signing_key: str | None = Field(
        default=None,
        min_length=2,
        max_length=4096,
        description="private ed25519 key that signs versions: $NAME of an environment variable with its path, or a "
        "path outside of the checkout; null: versions are not signed",
    )
