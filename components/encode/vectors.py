"""A vector of each caption, and the states of its tokens, made once for each encoder and kept among the facts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.base.events import Progress
from components.embed import sentences
from components.encode.params import FolderParams, TextParams
from components.samples import facts as known
from components.samples import pack, texts

log = logging.getLogger(__name__)

_AT_ONCE = 1024
"""Captions whose tokens are held at a time."""


class Kept(NamedTuple):
    """Facts about captions, one after the other."""

    store: known.Store
    places: np.ndarray
    new: int
    """How many were found out now."""


class Made(NamedTuple):
    """Vectors of captions, and what made them."""

    encoder: texts.Encoder
    pooled: Kept
    """A vector (D,) each."""
    tokens: Kept | None
    """The states of the tokens (L, D) of each caption, and of the empty one, and how many it has."""
    truncated: int
    """Captions whose end the encoder does not see."""

    def write(self, folder: Path) -> None:
        """Write what :mod:`components.samples.texts` says of vectors and tokens into ``folder``."""
        (folder / texts.POOLED).write_bytes(self.pooled.store.take(self.pooled.places).tobytes())
        if self.tokens is None:
            return
        lengths: list[int] = []
        with (folder / texts.TOKENS).open("wb") as stream:
            for some in self.tokens.store.stream(self.tokens.places, _AT_ONCE):
                stream.write(np.ascontiguousarray(some["tokens"]).tobytes())
                lengths += some["length"].tolist()
        pack.write_int32(folder / texts.LENGTHS, lengths)


def source(params: TextParams) -> tuple[str, Path]:
    """The name of the encoder and its folder; UserError when it is not there or is another one."""
    if not isinstance(params.encoder, FolderParams):
        return sentences.MINILM, sentences.minilm()
    folder = Path(params.encoder.folder)
    sentences.check(folder, params.encoder.sha256)
    return "folder", folder


def made(name: str, folder: Path, captions: Sequence[str], facts: Path, tokens: int = 0) -> Made:
    """What the encoder ``name`` in ``folder`` says of ``captions``; what ``facts`` has is not found out again.

    ``tokens``: of each caption, whose states are wanted beside its vector; 0: none.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, sha256 = sentences.Encoder(folder, device, tokens), sentences.identity(folder)
    pooled = _pooled(model, sha256, captions, facts)
    states = _states(model, sha256, [*captions, ""], facts) if tokens else None
    long = model.too_long(captions)
    if long:
        log.warning("%d captions have more than %d tokens: the encoder does not see how they end, as of \"%s ...\"",
                    len(long), model.seen, captions[long[0]][:60])  # fmt: skip
    log.info("%d of %d captions encoded now, each to %d numbers%s", pooled.new, len(captions), model.width,
             f" and {tokens} tokens" if tokens else "")  # fmt: skip
    nothing = int(states.store.take(states.places[-1:])["length"][0]) if states else 0
    encoder = texts.Encoder(
        name=name, sha256=sha256, width=model.width, longest=model.longest, tokens=tokens, nothing=nothing
    )
    return Made(encoder, pooled, states, len(long))


def _pooled(model: sentences.Encoder, sha256: str, captions: Sequence[str], facts: Path) -> Kept:
    kind = np.dtype([("vector", "<f2", (model.width,))])
    rule = known.rule({"encoder": sha256}, algorithms=[sentences.ALGORITHM], dtype=kind)
    store, names = known.Store(facts, "caption", rule, kind), _names(captions)
    missing = np.flatnonzero(store.find(names) < 0).tolist()
    if missing:
        with Progress(len(missing), what="encode") as progress:
            vectors = model.of([captions[at] for at in missing], progress.advance).numpy().astype("<f2")
        store.add(names[missing], vectors.view(kind).reshape(-1))
    return Kept(store, store.find(names), len(missing))


def _states(model: sentences.Encoder, sha256: str, captions: Sequence[str], facts: Path) -> Kept:
    kind = np.dtype([("tokens", "<f2", (model.seen, model.width)), ("length", "<i4")])
    rule = known.rule({"encoder": sha256}, algorithms=[sentences.TOKENS], dtype=kind)
    store, names = known.Store(facts, "caption_tokens", rule, kind), _names(captions)
    missing = np.flatnonzero(store.find(names) < 0).tolist()
    if missing:
        with Progress(len(missing), what="encode: tokens") as progress:
            for first in range(0, len(missing), _AT_ONCE):
                some = missing[first : first + _AT_ONCE]
                found = np.empty(len(some), kind)
                for part, states, lengths in _in_parts(model, [captions[at] for at in some]):
                    found["tokens"][part], found["length"][part] = states, lengths
                    progress.advance(len(lengths))
                store.add(names[some], found)
    return Kept(store, store.find(names), len(missing))


def _in_parts(model: sentences.Encoder, captions: Sequence[str]) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    first = 0
    for states, lengths in model.states(captions):
        yield slice(first, first + len(lengths)), states.numpy(), lengths.numpy()
        first += len(lengths)


def _names(captions: Sequence[str]) -> np.ndarray:
    return known.keys([hashlib.sha256(caption.encode()).digest() for caption in captions])
