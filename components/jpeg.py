"""What Pillow lets pass in a JPEG: a missing end, and a header that claims more rows than there are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_END = b"\xff\xd9"
_TAIL = 64 * 1024  # bytes: cameras put notes behind the end marker
_PADDING = bytes(16)  # lets the decoder look ahead of the last code; too short to pass for missing rows


def trouble(data: bytes, width: int, height: int) -> str:
    """What the size of ``data`` gives away before anything is decoded; '' when nothing."""
    if _END not in data[-_TAIL:]:
        return "cut off before its end"
    # Each 8 x 8 block takes one bit at least, so 512 pixels need a byte.
    if len(data) * 512 < width * height:
        return f"{len(data)} bytes cannot hold the {width} x {height} pixels that its header claims"
    return ""


def rows_missing(data: bytes, pixels: np.ndarray) -> bool:
    """Whether the decoder ran out of data before the last row; ``pixels`` is what it made of it.

    Where data are missing libjpeg repeats one colour to the end, with a warning that Pillow drops.  So a last
    row of one colour is suspicious, and only then the image is decoded again, without its end marker: now the
    decoder has to ask for what is missing.  A progressive JPEG always asks; there it is not known.
    """
    last = pixels[-1]
    if (last != last[0]).any():
        return False
    cut = data[: data.rindex(_END)] + _PADDING
    try:
        with Image.open(io.BytesIO(cut), formats=("JPEG",)) as image:
            if image.info.get("progressive"):
                return False
            image.load()
    except OSError:
        return True
    return False
