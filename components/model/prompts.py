"""What to draw, in words: prompts as the vectors that a model was trained to be told with.

A model folder says in ``stillroom.json`` (``text``) which encoder that was; one that is no package's lies in
``text_encoder/``, as pipelines of diffusers have theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from components.base.errors import UserError
from components.embed import sentences
from components.samples import captions, texts

FOLDER = "text_encoder"


def vectors(folder: Path, text: texts.Encoder | None, prompts: Sequence[str]) -> Tensor:
    """A vector of each of ``prompts``, float32 (N, D), for the model in ``folder``, told by ``text``; "" is none.

    UserError where the model takes no captions, its encoder is not there or another one, or a prompt is too long.
    """
    if text is None:
        raise UserError(
            "this model takes no captions, so it cannot be told what to draw: name a label, or train one with text in "
            "train.conditions (docs/text.md)"
        )
    place = sentences.minilm() if text.name == sentences.MINILM else folder / FOLDER
    sentences.check(place)
    if sentences.identity(place) != text.sha256:
        raise UserError(f"{place}: not the text encoder that this model was trained with: pull the model again, or "
                        f"install the version of {sentences.PACKAGE} that its card names")  # fmt: skip
    cleaned = [captions.clean(prompt, captions.MOST) for prompt in prompts]
    encoder = sentences.Encoder(place)
    for at in encoder.too_long(cleaned):
        raise UserError(f"prompt '{cleaned[at][:40]} ...': more than the {encoder.longest} tokens that the encoder of "
                        "this model takes: say it in fewer words")  # fmt: skip
    said = torch.tensor([bool(each) for each in cleaned])
    return encoder.of(cleaned).float().masked_fill_(~said[:, None], 0)
