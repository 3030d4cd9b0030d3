"""Sheets of pictures as PNG; the only module that imports torchvision, inside a function."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from components.base import files

MADE_BY_A_MODEL = {
    "XML:com.adobe.xmp": '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
}
"""What tells other programs that a picture was drawn by a model: IPTC's digital source type, as XMP."""


def encode(images_NHWC: Tensor, *, columns: int, scale: int = 1, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG of uint8 pictures in rows of ``columns``, each pixel ``scale`` wide, with ``text`` inside it."""
    from torchvision.io import encode_png
    from torchvision.utils import make_grid

    images = images_NHWC.permute(0, 3, 1, 2)
    if scale > 1:
        images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    sheet = make_grid(images, nrow=columns, padding=2, pad_value=255)
    return _with_text(encode_png(sheet).numpy().tobytes(), text or {})


def write(path: Path, images_NHWC: Tensor, *, columns: int, scale: int = 1,
          text: Mapping[str, str] | None = None) -> None:  # fmt: skip
    """Write :func:`encode` to ``path``, whole or not at all."""
    blob = encode(images_NHWC, columns=columns, scale=scale, text=text)
    with files.replacing(path) as beside:
        beside.write_bytes(blob)


def _with_text(png: bytes, text: Mapping[str, str]) -> bytes:
    """``png`` with each entry as an iTXt chunk (UTF-8) before its end; keywords are Latin-1, 1..79 bytes."""
    chunks = b""
    for keyword, value in text.items():
        body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode()
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = len(png) - 12  # the IEND chunk
    return png[:end] + chunks + png[end:]
