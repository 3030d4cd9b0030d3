"""What the tests of the pixel rule ask: what does a file show, and why is another one refused?"""

import io
import struct
import zlib

import pytest
from data_fixtures import WHITE

from components.decode.images import Damaged, decode


def show(data, matte=WHITE, max_pixels=10**6):
    """The pixels of ``data``."""
    return decode(data, matte, max_pixels=max_pixels).pixels


def why(data, **options):
    """The reason for which ``data`` is refused."""
    with pytest.raises(Damaged) as caught:
        show(data, **options)
    assert "\n" not in caught.value.detail
    return caught.value.reason


def saved(image, kind="PNG", **options):
    """``image`` of Pillow as a file."""
    stream = io.BytesIO()
    if kind == "HEIF":
        import pillow_heif  # here: few tests need it

        pillow_heif.register_heif_opener(decode_threads=1)
    if kind == "JXL":
        import pillow_jxl  # noqa: F401
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind, body):
    """One part of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
