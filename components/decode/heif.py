"""HEIF, as phones write it (HEIC): by pillow-heif where it is installed, `pip install "stillroom[heic]"`.

An extra, because the codec in its wheel (x265) is under the GPL.  What decodes is part of the key of what is kept of a
file, so files that were refused for want of it are looked at again once it is there.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

from components.decode.picture import Damaged

if TYPE_CHECKING:
    from PIL import Image

MISSING = 'HEIF (HEIC) is read by pillow-heif, which is not installed: pip install "stillroom[heic]"'
_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_ANY = frozenset({b"mif1", b"msf1", b"mif2"})
"""Brands of ISO/IEC 23008-12: coded by HEVC, and of whatever codec the compatible brands name."""


def is_heif(data: bytes) -> bool:
    """Whether ``data`` claims to be HEIF coded by HEVC; an AVIF is none."""
    if data[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in range(16, length, 4)}
    return data[8:12] in _HEVC or (data[8:12] in _ANY and bool(brands & _HEVC))


def opened(data: bytes) -> Image.Image:
    """The picture in ``data``, its header read; Damaged where nothing here reads it."""
    if not _registered():
        raise Damaged("format", MISSING)
    from PIL import Image  # here: what fetches images only looks at their first bytes

    try:
        return Image.open(io.BytesIO(data), formats=("HEIF",))
    except Image.UnidentifiedImageError:
        raise Damaged("damaged", "begins as HEIF, and the rest of its header is broken or of no known kind") from None


@functools.cache
def _registered() -> bool:
    try:
        import pillow_heif  # here: few data sets have such a file
    except ImportError:
        return False
    # One thread, as each of our processes has a core; of what lies beside the picture nothing is read.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return True
