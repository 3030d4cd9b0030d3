"""What to draw, in words: prompts as the vectors, and the tokens, that a model was trained to be told with.

A model folder says in ``stillroom.json`` (``text``) which encoder that was; one that is no package's lies in
``text_encoder/``, as pipelines of diffusers have theirs.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from components.base.errors import UserError
from components.dataset.told import Captions
from components.diffusion import conditions
from components.embed import sentences
from components.model import notes
from components.samples import captions, texts

FOLDER = "text_encoder"


def said(folder: Path, text: texts.Encoder | None, prompts: Sequence[str]) -> conditions.Condition:
    """Each of ``prompts`` as the model in ``folder`` is told it by ``text``, a row each; "" is none.

    UserError where the model takes no captions, its encoder is not there or another one, or a prompt is too long.
    """
    if text is None:
        raise UserError(
            "this model takes no captions, so it cannot be told what to draw: name a label, or train one with text in "
            "train.conditions (docs/text.md)"
        )
    beside = text.name != sentences.MINILM or (folder / FOLDER).is_dir()
    place = folder / FOLDER if beside else sentences.minilm()
    sentences.check(place)
    if sentences.identity(place) != text.sha256:
        raise UserError(f"{place}: not the text encoder that this model was trained with: pull the model again, or "
                        f"install the version of {sentences.PACKAGE} that its card names")  # fmt: skip
    cleaned = [captions.clean(prompt, captions.MOST) for prompt in prompts]
    encoder = sentences.Encoder(place, tokens=text.tokens)
    for at in encoder.too_long(cleaned):
        raise UserError(f"prompt '{cleaned[at][:40]} ...': more than the {encoder.seen} tokens that the encoder of "
                        "this model takes: say it in fewer words")  # fmt: skip
    empty = torch.tensor([not each for each in cleaned])
    found = {conditions.TEXT: encoder.of(cleaned).float().masked_fill_(empty[:, None], 0)}
    if not text.tokens:
        return found
    states, lengths = (torch.cat(parts) for parts in zip(*encoder.states(cleaned), strict=True))
    return {**found, **conditions.of_tokens(states, lengths)}


def write(folder: Path, told: Captions) -> None:
    """Write what a prompt needs into the model's ``folder``: the encoder, where stage ``encode`` copied it, and the
    empty caption."""
    beside = told.folder / texts.ENCODER
    if not (folder / FOLDER).is_dir() and beside.is_dir():
        shutil.copytree(beside, folder / FOLDER)
    if told.encoder.tokens:
        nothing = told.tokens(torch.tensor([-1]))[conditions.TOKENS]
        (folder / notes.NOTHING).write_bytes(nothing.numpy().astype("<f2").tobytes())
