"""Sheets of pictures as PNG, by Pillow: torchvision, which has both halves, takes two seconds to import."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from components.base import files

LINE = 2  # px between pictures


def _source(kind: str) -> dict[str, str]:
    return {
        "XML:com.adobe.xmp": '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
        f'"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"/></rdf:RDF></x:xmpmeta>'
    }


MADE_BY_A_MODEL = _source("trainedAlgorithmicMedia")
"""What tells other programs that a picture was drawn by a model: IPTC's digital source type, as XMP."""
CHANGED_BY_A_MODEL = _source("compositeWithTrainedAlgorithmicMedia")
"""The same of a picture that began from another."""


def encode(images_NHWC: Tensor, *, columns: int, scale: int = 1, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG of uint8 pictures in rows of ``columns``, each pixel ``scale`` wide, with ``text`` inside it.

    Of five channels or more it shows the first three, as :func:`components.samples.pack.picture` does.
    """
    from PIL import Image  # not at the top: who trains needs no Pillow

    shown = images_NHWC[..., :3] if images_NHWC.shape[-1] > 4 else images_NHWC
    images = shown.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    pixels = images[0] if len(images) == 1 else _sheet(images, columns)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1).numpy()).save(stream, "png")
    return _with_text(stream.getvalue(), text or {})


def _sheet(images_NHWC: Tensor, columns: int) -> Tensor:
    """One picture of all, in rows of ``columns``, with white lines around them."""
    count, height, width, channels = images_NHWC.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = torch.full(
        (rows * (height + LINE) + LINE, columns * (width + LINE) + LINE, channels), 255, dtype=torch.uint8
    )
    for number, image in enumerate(images_NHWC):
        top, left = (
            at * (side + LINE) + LINE for at, side in zip(divmod(number, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = image
    return sheet


def framed(runs: Sequence[Tensor]) -> Tensor:
    """Pictures of several shapes, uint8 NHWC each, as one tensor: each in the middle of white where it is smaller."""
    height, width = (max(run.shape[axis] for run in runs) for axis in (1, 2))
    out = []
    for run in runs:
        _, high, wide, _ = run.shape
        top, left = (height - high) // 2, (width - wide) // 2
        out.append(pad(run, (0, 0, left, width - wide - left, top, height - high - top), value=255))
    return torch.cat(out)


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
