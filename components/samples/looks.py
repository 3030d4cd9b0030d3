"""How the pictures of a pack look: which are worth a look, because they are dark, bright, flat, blurred, long or small.

What is measured is what training sees, so a flag depends on the pack's resolution.  Nothing is rejected by it.
Luma lies in 0..1; the bounds are such that few pictures of a sound data set have a flag (docs/data.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from components.base import grouping
from components.base.algorithms import Algorithm
from components.samples import facts, pack

ALGORITHM = Algorithm("looks", 1, ("numpy",))
FLAGS: Mapping[str, str] = {
    "dark": "Nothing in it is light: 95 % of its pixels are below a quarter of full luma.",
    "bright": "Nothing in it is dark: 95 % of its pixels are above nine tenths of full luma.",
    "flat": "Hardly anything is to be seen: its luma spreads by less than 0.03 of 1.",
    "blurred": "Its finest detail is weak against its contrast, at the size that training uses.",
    "long": "One side is more than three times the other: much is cut away, or padded.",
    "small": "Enlarged more than twice to the size that training uses.",
    "label": "Its label may be wrong: what the other pictures have taught a classifier of the embedding speaks clearly "
             "for another. Only embedded pictures are judged (profile.images).",
}  # fmt: skip
"""Every flag, and what it says, in the order in which the first that holds is taken; `label` is of stage `profile`."""
TABLE = "looks.parquet"
"""The table manifest.LOOKS in data/profile."""
_DARK, _BRIGHT, _FLAT, _BLURRED = 0.25, 0.9, 0.03, 0.15
_NEARLY_ALL = 0.95
_LONG, _SMALL = 3.0, 2.0
_LOOK = np.dtype([("look", "S8")])
_CHUNK = 2**20  # bytes of pixels at a time: what is made of them stays in the CPU's cache
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255


def flags(pixels: Path, rows: Sequence[tuple[int, int, int]], store: Path) -> dict[int, str]:
    """The first of FLAGS that holds of each picture, by row of the pack ``pixels``; those without one are left out.

    ``rows`` has (row, width, height) of each, in px as it came; ``store`` is the folder of facts, in which the looks
    of each picture are kept by its pixels: to hash a picture of 256 px takes a twentieth of looking at it.
    """
    header = pack.read_header(pixels)
    rule = facts.rule({}, algorithms=[ALGORITHM], dtype=_LOOK)
    known = facts.Store(store, "look", rule, _LOOK)
    if len(header.shapes) == 1:
        by_shape = {header.spec.picture_shape: list(rows)}
    else:
        by_shape = {}
        for each in rows:
            by_shape.setdefault(header.picture_shape(each[0]), []).append(each)
    found: dict[int, str] = {}
    for shape, mine in by_shape.items():
        numbers = [row for row, _, _ in mine]
        named = names(pack.read_rows(pixels, header, numbers), shape)
        new = np.flatnonzero(known.find(named) < 0)
        new = new[grouping.founders(named[new]) == np.arange(len(new))]
        if len(new):
            known.add(named[new], _seen(pixels, header, [numbers[at] for at in new], shape))
        looks = known.take(known.find(named))["look"].tolist()
        for (row, width, height), look in zip(mine, looks, strict=True):
            if flag := look.decode() or _of_size(width, height, min(shape[:2])):
                found[row] = flag
    return found


def names(pictures: Iterable[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """What the look of each of ``pictures`` is kept under: a SHA-256 of shape and pixels."""
    shaped = hashlib.sha256(str(shape).encode())
    found = bytearray()
    for data in pictures:
        digest = shaped.copy()
        digest.update(data)
        found += digest.digest()
    return np.frombuffer(bytes(found), facts.KEY)


def _seen(pixels: Path, header: pack.Header, rows: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    """What :func:`seen` says of each of ``rows``, all of one ``shape``."""
    step = max(1, _CHUNK // int(np.prod(shape)))
    said = []
    for start in range(0, len(rows), step):
        data = b"".join(pack.read_rows(pixels, header, rows[start : start + step]))
        said += seen(np.frombuffer(data, np.uint8).reshape(-1, *shape))
    return np.array([(each.encode(),) for each in said], _LOOK)


def seen(pictures: np.ndarray) -> list[str]:
    """The first of dark, bright, flat and blurred that holds of each picture, uint8 (N, H, W, C); "" for none."""
    grey = pictures.astype(np.float32) @ _LUMA if pictures.shape[-1] == 3 else pictures.mean(-1, dtype=np.float32) / 255
    dark, bright = ((where.mean((1, 2)) >= _NEARLY_ALL) for where in (grey < _DARK, grey > _BRIGHT))
    spread = grey.std((1, 2))
    # The Laplacian of inner pixels: what changes from one pixel to the next, and is the first to go in a blur.
    inner = grey[:, 1:-1, 1:-1]
    fine = 4 * inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    sharp = fine.std((1, 2)) / np.maximum(spread, 1e-6)
    holds = np.stack([dark, bright, spread < _FLAT, sharp < _BLURRED, np.ones(len(grey), bool)])
    names = (*list(FLAGS)[:4], "")
    return [names[at] for at in holds.argmax(0).tolist()]


def _of_size(width: int, height: int, side: int) -> str:
    short, long = sorted((width, height))
    if long > _LONG * short:
        return "long"
    return "small" if short * _SMALL < side else ""
