"""What a small text encoder makes of fixed captions, for tests/recorded.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from text_fixtures import make_encoder

from components.embed import sentences


def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Which captions are too long, and the vector of each."""
    with tempfile.TemporaryDirectory() as scratch:
        encoder = sentences.Encoder(make_encoder(Path(scratch) / "bert"))
        captions = ["a red fish", "", "a " * 30, "left of a blue stone."]
        return np.array(encoder.too_long(captions)), encoder.of(captions).numpy()


def tokens() -> tuple[np.ndarray, np.ndarray]:
    """How many tokens captions have, and every second one's state."""
    with tempfile.TemporaryDirectory() as scratch:
        found = sentences.Encoder(make_encoder(Path(scratch) / "bert"), tokens=6).states(["a red fish", "", "a " * 30])
        return next((lengths.numpy(), states[:, ::2].numpy()) for states, lengths in found)
