"""What a decoder gives back: a picture, or why there is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_PLACE = re.compile(r" at 0x[0-9a-f]+")


class Damaged(Exception):
    """An image that cannot be used: ``reason`` is one word, ``detail`` one sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Picture:
    """Decoded ``pixels``, uint8 (H, W, 3); ``mode`` and ``format`` are those of the file."""

    pixels: np.ndarray
    mode: str
    format: str
    note: str = ""
    """What was left undone, in one sentence: a colour profile that is broken."""


def one_line(error: BaseException) -> str:
    """What ``error`` says, in at most 200 characters; the same each time, so without an object's place in memory."""
    return (_PLACE.sub("", " ".join(str(error).split())) or type(error).__name__)[:200]
