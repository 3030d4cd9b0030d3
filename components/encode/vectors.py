"""A vector of each caption, made once for each encoder and kept among the facts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.base.events import Progress
from components.embed import sentences
from components.encode.params import FolderParams, TextParams
from components.samples import facts as known
from components.samples import texts

log = logging.getLogger(__name__)


class Made(NamedTuple):
    """Vectors of captions, and what made them."""

    encoder: texts.Encoder
    pooled: bytes
    """(M, D) little-endian half floats."""
    new: int
    """Captions that were encoded now."""
    truncated: int
    """Captions whose end the encoder does not see."""


def source(params: TextParams) -> tuple[str, Path]:
    """The name of the encoder and its folder; UserError when it is not there or is another one."""
    if not isinstance(params.encoder, FolderParams):
        return sentences.MINILM, sentences.minilm()
    folder = Path(params.encoder.folder)
    sentences.check(folder, params.encoder.sha256)
    return "folder", folder


def made(name: str, folder: Path, captions: Sequence[str], facts: Path) -> Made:
    """The vectors of ``captions`` by the encoder ``name`` in ``folder``, but for those that ``facts`` has."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, sha256 = sentences.Encoder(folder, device), sentences.identity(folder)
    kind = np.dtype([("vector", "<f2", (model.width,))])
    store = known.Store(
        facts, "caption", known.rule({"encoder": sha256}, algorithms=[sentences.ALGORITHM], dtype=kind), kind
    )
    names = known.keys([hashlib.sha256(caption.encode()).digest() for caption in captions])
    missing = np.flatnonzero(store.find(names) < 0).tolist()
    if missing:
        with Progress(len(missing), what="encode") as progress:
            vectors = model.of([captions[at] for at in missing], progress.advance).numpy().astype("<f2")
        store.add(names[missing], vectors.view(kind).reshape(-1))
    long = model.too_long(captions)
    if long:
        log.warning("%d captions have more than %d tokens: the encoder does not see how they end, as of \"%s ...\"",
                    len(long), model.longest, captions[long[0]][:60])  # fmt: skip
    log.info("%d of %d captions encoded now, each to %d numbers", len(missing), len(captions), model.width)
    encoder = texts.Encoder(name=name, sha256=sha256, width=model.width, longest=model.longest)
    return Made(encoder, store.take(store.find(names)).tobytes(), len(missing), len(long))
