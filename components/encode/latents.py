"""Latents of the pack's pictures by a frozen autoencoder, each made once and kept among the facts."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from components.base import files
from components.base.errors import UserError
from components.base.events import Progress
from components.encode.params import LatentsParams
from components.networks import autoencoder
from components.samples import facts as known
from components.samples import latents, looks, pack
from components.samples import spec as specs

log = logging.getLogger(__name__)

_SOME = 512
"""Pictures whose latents are in memory at once, and that a killed stage makes again at most."""

_JUDGED = 64
"""Pictures that are decoded again, to say how near they come."""


def write(params: LatentsParams, folder: Path, *, pixels: Path, splits: Path, facts: Path) -> dict[str, float]:
    """Write the latents of every row of the pack ``pixels`` into ``folder``; what there is to say of them.

    They are normalised by mean and deviation over the training images.
    """
    source, header = Path(params.folder), pack.read_header(pixels)
    autoencoder.check(source, params.sha256)
    model = autoencoder.load(source)
    _check(model, header, source)
    device, sha256 = "cuda" if torch.cuda.is_available() else "cpu", autoencoder.identity(source)
    made = _made(model.to(device), sha256, pixels, header, facts)
    train = np.array(pack.read_split(splits, "train"), np.int64)
    if not len(train):
        raise UserError(f"{splits}: no image to train on, and latents are normalised by those: see the data report")
    mean, std = _moments(made.store, made.places[train], autoencoder.by_channel(model.kind))
    autoencoder.normalised(source, mean, std, folder / latents.VAE)
    note = latents.Autoencoder(
        kind=model.kind, sha256=sha256, factor=model.factor, colours=model.colours, mean=mean, std=std,
        weights=files.sha256(folder / latents.VAE / autoencoder.WEIGHTS),
    )  # fmt: skip
    shape = note.shape(header.spec.shape)
    _write(folder / latents.PACK, made, note, shape, pixels, header)
    if params.mirrored:
        flipped = _made(model, sha256, pixels, header, facts, mirrored=True)
        _write(folder / latents.MIRRORED, flipped, note, shape, pixels, header)
    latents.write(folder, note, pixels)
    psnr = _psnr(folder, pixels, pack.read_split(splits, "val") or pack.read_split(splits, "train"), device)
    log.info("%d of %d pictures encoded now, each to %s numbers by %s; decoded again they come to %.1f dB",
             made.new, header.rows, " x ".join(map(str, shape)), note.name, psnr)  # fmt: skip
    return {"latents": float(header.rows), "latents_new": float(made.new), "latents_psnr": psnr}


class _Made(NamedTuple):
    """The latents of every row of a pack, in the store of facts."""

    store: known.Store
    places: np.ndarray
    """Of each row, in the store."""
    new: int
    """Made now."""


def _write(
    folder: Path, made: _Made, note: latents.Autoencoder, shape: tuple[int, ...], pixels: Path, header: pack.Header
) -> None:  # fmt: skip
    """Write a pack of them, normalised, into the new ``folder``."""
    spec = specs.SampleSpec(kind="latent", shape=shape, dtype="f16", scale=1.0, shift=0.0, sigma_data=1.0)
    folder.mkdir()
    pack.write(
        folder, _normalised(made.store, made.places, note.mean, note.std), spec=spec, keys=pack.read_keys(pixels),
        classes=header.classes, class_ids=pack.read_classes(pixels),
    )  # fmt: skip


def _check(model: autoencoder.Autoencoder, header: pack.Header, source: Path) -> None:
    """UserError unless ``model`` makes latents of the pictures of a pack."""
    if len(header.shapes) > 1 or not header.spec.pixels:
        raise UserError(
            "encode.latents: of pictures of one size only, and these have several shapes: take resize.fit pad or crop, "
            "or set encode.latents to null"
        )
    colours, height, width = header.spec.shape
    if colours != model.colours:
        raise UserError(f"{source}: an autoencoder for pictures of {model.colours} channels, and these have {colours}")
    if height % model.factor or width % model.factor:
        raise UserError(
            f"{source}: {model.factor} pixels of a side become one place of a latent, and {model.factor} does not "
            f"divide {header.spec.size}: change resize.side, or take another autoencoder"
        )


def _made(
    model: autoencoder.Autoencoder, sha256: str, pixels: Path, header: pack.Header, facts: Path, *,
    mirrored: bool = False,
) -> _Made:  # fmt: skip
    """The latents of every row, or of its mirrored picture, after those that the store had not are made."""
    channels, height, width = model.channels, *(side // model.factor for side in header.spec.shape[1:])
    kind = np.dtype([("latent", "<f2", (channels, height, width))])
    rule = known.rule({"autoencoder": sha256, "mirrored": mirrored}, algorithms=[autoencoder.ALGORITHM], dtype=kind)
    store = known.Store(facts, "latent", rule, kind)
    names = looks.names(pack.read_rows(pixels, header, range(header.rows)), header.spec.picture_shape)
    missing = np.flatnonzero(store.find(names) < 0)
    with Progress(max(1, len(missing)), what="encode: latents") as progress:
        for first in range(0, len(missing), _SOME):
            rows = missing[first : first + _SOME]
            found = _encoded(model, pixels, header, rows.tolist(), mirrored)
            store.add(names[rows], found.reshape(len(rows), -1).view(kind).reshape(-1))
            progress.advance(len(rows))
    return _Made(store, store.find(names), len(missing))


def _encoded(
    model: autoencoder.Autoencoder, pixels: Path, header: pack.Header, rows: list[int], mirrored: bool
) -> np.ndarray:  # fmt: skip
    """The latents of ``rows``, float16 (N, C, h, w); UserError when a number of theirs is not finite."""
    device, parts = next(model.parameters()).device, []
    for first in range(0, len(rows), autoencoder.BATCH):
        some = rows[first : first + autoencoder.BATCH]
        filled = some + some[-1:] * (autoencoder.BATCH - len(some))
        pictures = _pictures(pixels, header, sorted(filled)).to(device)
        pictures = pictures.flip(3) if mirrored else pictures
        parts.append(model.encode(pictures)[: len(some)].half().cpu())
    found = torch.cat(parts)
    if not bool(torch.isfinite(found).all()):
        row = rows[int((~torch.isfinite(found).flatten(1).all(1)).nonzero()[0])]
        raise UserError(
            f"encode.latents: the latents of row {row} ({pack.read_keys(pixels)[row][:12]}) hold a number that is not "
            "finite in half precision: take another autoencoder"
        )
    return np.ascontiguousarray(found.numpy().astype("<f2"))


def _pictures(pixels: Path, header: pack.Header, rows: list[int]) -> torch.Tensor:
    """Float32 BCHW in [-1, 1]."""
    blob = b"".join(pack.read_rows(pixels, header, rows))
    stored = torch.frombuffer(bytearray(blob), dtype=torch.uint8).view(len(rows), *header.spec.stored_shape)
    return stored.permute(0, 3, 1, 2).float() * header.spec.scale + header.spec.shift


def _moments(
    store: known.Store, places: np.ndarray, by_channel: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:  # fmt: skip
    """Mean and standard deviation of each channel, six digits; else zeros, and the deviation of all of them."""
    count, channels = 0, store.dtype["latent"].shape[0]
    first, second = np.zeros(channels), np.zeros(channels)
    for at in range(0, len(places), _SOME):
        found = store.take(places[at : at + _SOME])["latent"].astype(np.float64)
        count += found.size // channels
        first += found.sum((0, 2, 3))
        second += np.square(found).sum((0, 2, 3))
    means, squares = first / count, second / count
    if not by_channel:
        whole = math.sqrt(max(0.0, float(squares.mean() - means.mean() ** 2)))
        return (0.0,) * channels, (_rounded(whole) or 1.0,) * channels
    deviations = np.sqrt(np.maximum(0, squares - means**2)).tolist()
    return tuple(map(_rounded, means.tolist())), tuple(_rounded(each) or 1.0 for each in deviations)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _normalised(
    store: known.Store, places: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> Iterator[bytes]:  # fmt: skip
    """The latents at ``places`` as a pack holds them, channels last, some at a time."""
    shift, scale = (np.array(each, np.float32).reshape(-1, 1, 1) for each in (mean, std))
    for at in range(0, len(places), _SOME):
        found = (store.take(places[at : at + _SOME])["latent"].astype(np.float32) - shift) / scale
        yield np.ascontiguousarray(found.transpose(0, 2, 3, 1)).astype("<f2").tobytes()


def _psnr(folder: Path, pixels: Path, rows: Sequence[int], device: str) -> float:
    """How near some of ``rows`` come when their latents are decoded, in dB: the most that a denoiser can reach."""
    held, header = pack.read_header(folder / latents.PACK), pack.read_header(pixels)
    model = autoencoder.load(folder / latents.VAE).to(device)
    some = sorted({rows[at * len(rows) // _JUDGED] for at in range(_JUDGED)})
    errors = []
    for row in some:
        stored = np.frombuffer(pack.read_row(folder / latents.PACK, held, row), "<f2").astype(np.float32)
        latent = torch.from_numpy(stored).view(1, *held.spec.stored_shape).permute(0, 3, 1, 2)
        picture = model.decode(latent.contiguous().to(device)).cpu().clamp(-1, 1)
        errors.append(float((picture - _pictures(pixels, header, [row])).square().mean()))
    return float(f"{10 * math.log10(4 / max(1e-10, sum(errors) / len(errors))):.4g}")
