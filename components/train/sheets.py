"""A sheet of pictures at each check: what the averaged network draws at that point of its training.

It is for who watches: no output holds it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from components.base import events
from components.base.errors import UserError, brief
from components.dataset import tensors
from components.diffusion import conditions
from components.networks import autoencoder, registry
from components.samples import latents, texts
from components.samples.pack import Header
from components.train.distributed.ranks import Group
from components.train.params import TrainParams
from components.train.state import State

SHOWN = 96
"""Screen pixels, about, that a small picture is wide on a sheet."""

_log = logging.getLogger(__name__)


class Told(NamedTuple):
    """What the pictures of a sheet show: labels, and captions of held-out images."""

    encoder: texts.Encoder
    class_ids: list[int]
    said: conditions.Condition
    """A row each."""
    nothing: conditions.Condition
    """The empty caption."""


def told(params: TrainParams, pixels: tensors.Pixels, rows: Sequence[int]) -> Told | None:
    """Captions of ``rows``, spread evenly over them, for the pictures of a sheet; None for a network without."""
    if pixels.captions is None or not rows:
        return None
    some = [rows[at * len(rows) // params.sheet] for at in range(params.sheet)]
    found = pixels.captions
    said, nothing = found.said(found.numbers(some)), found.said(torch.tensor([-1]))
    return Told(found.encoder, pixels.class_ids[some].tolist(), said, nothing)


class _Stopped(Exception):
    """The training is asked to stop while a sheet is drawn, which may take minutes."""


def draw(
    state: State, params: TrainParams, header: Header, folder: Path, group: Group, stopped: Callable[[], bool],
    sigmas: tuple[float, ...] | None = None, told: Told | None = None, space: latents.Latents | None = None,
) -> None:  # fmt: skip
    """Write ``<images seen>.png`` to ``folder`` and tell of it, on rank 0 and where the samples are pictures.

    ``params.sheet`` pictures, of one class after the other; number i is drawn from the same noise at each check, at
    the noise levels ``sigmas``, None for those of the sampler.  ``told``: what the pictures of a network that takes
    captions show; ``space``: what makes pictures of samples that are latents.
    Where that fails, or once ``stopped``, there is none: the training goes on, as it does without somebody watching.
    """
    if not params.sheet or group.rank or state.sharded or not (header.spec.pixels or space):
        return

    def look(_: int) -> None:
        if stopped():
            raise _Stopped

    from components.model import grid, sampling  # not at the top: most trainings of tests draw nothing

    classes = header.classes
    null = registry.labels(state.average) - 1 if classes else None
    model = sampling.Denoiser(
        network=state.average, device=group.device, engine="torch", objective=state.objective,
        weighting=params.weighting, classes=tuple(classes), null_class=null, spec=header.spec,
        sampler=params.sampler, steps=params.steps, guidance=params.guidance, autoguidance=1.0, guide=None,
        sigmas=sigmas, shapes=header.shapes, multiple=registry.multiple(state.average),
        text=told and told.encoder, nothing=told.nothing if told else {},
        autoencoder=space and space.autoencoder, decoder=space and autoencoder.load(space.vae).to(group.device),
    )  # fmt: skip
    ids = told.class_ids if told else [at % len(classes) if classes else -1 for at in range(params.sheet)]
    columns = min(len(classes) or 8, params.sheet, 16)
    path = folder / f"{state.images_seen:012d}.png"
    try:
        pictures = grid.framed([
            sampling.sample(model, ids[part], seed=params.seed, start=part.start, shape=None if space else shape,
                            precision=params.precision, progress=look, text=told and conditions.rows(told.said, part))
            for part, shape in _rows(len(ids), columns, header)
        ])  # fmt: skip
        grid.write(path, pictures, columns=columns, scale=max(1, SHOWN // pictures.shape[2]))
    except _Stopped:
        return
    # So early that nothing finite is drawn; a disk that is full; a GPU's memory, of which training needs less.
    except (UserError, OSError, torch.OutOfMemoryError) as error:
        _log.warning("no sheet after %d images: %s", state.images_seen, brief(error))
        return
    events.emit(kind="file", path=str(path.absolute()), folder="samples")


def _rows(count: int, columns: int, header: Header) -> list[tuple[slice, tuple[int, ...]]]:
    """The pictures that are drawn together, and their shape: all of them, or of several shapes one after the other, a
    row each."""
    size = count if len(header.shapes) == 1 else columns
    shapes = itertools.cycle(header.shapes)
    return [(slice(at, min(count, at + size)), next(shapes)) for at in range(0, count, size)]


def fresh(folder: Path, seen: int) -> None:
    """Remove sheets of another training, or of more than ``seen`` images of this one."""
    for path in folder.glob("[0-9]" * 12 + ".png"):
        if not seen or int(path.stem) > seen:
            with contextlib.suppress(OSError):  # who may not remove it is told when the next one is written
                path.unlink()


def warn_of_none(params: TrainParams, state: State, header: Header, *, decoded: bool = False) -> None:
    """Say once why a training that should have sheets has none; ``decoded``: of its samples pictures are made."""
    if params.sheet and (state.sharded or not (header.spec.pixels or decoded)):
        why = "sharding full has no whole network" if state.sharded else "its samples are no pictures"
        _log.warning("train.sheet %d, but no sheet is drawn in this training: %s", params.sheet, why)
