"""A sheet of pictures at each check: what the averaged network draws at that point of its training.

It is for who watches: no output holds it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from components.base import events
from components.base.errors import UserError
from components.samples.pack import Header
from components.train.distributed.ranks import Group
from components.train.params import TrainParams
from components.train.state import State

_log = logging.getLogger(__name__)


def draw(state: State, params: TrainParams, header: Header, folder: Path, group: Group) -> None:
    """Write ``<images seen>.png`` to ``folder`` and tell of it, on rank 0 and where the samples are pictures.

    ``params.sheet`` pictures, of one class after the other; number i is drawn from the same noise at each check.
    """
    if not params.sheet or group.rank or state.sharded or not header.spec.pixels:
        return
    from components.model import grid, sampling  # not at the top: most trainings of tests draw nothing

    classes = header.classes
    model = sampling.Denoiser(
        network=state.average, device=group.device, engine="torch", objective=state.objective,
        weighting=params.weighting, classes=tuple(classes), null_class=len(classes) or None, spec=header.spec,
        sampler=params.sampler, steps=params.steps, guidance=params.guidance, sigmas=None,
    )  # fmt: skip
    ids = [at % len(classes) if classes else -1 for at in range(params.sheet)]
    path = folder / f"{state.images_seen:012d}.png"
    try:
        pictures = sampling.sample(model, ids, seed=params.seed, precision=params.precision)
    except UserError as error:  # so early that nothing finite is drawn
        _log.warning("no sheet after %d images: %s", state.images_seen, error)
        return
    grid.write(path, pictures, columns=min(len(classes) or 8, params.sheet, 16))
    events.emit(kind="file", path=str(path.absolute()), folder="samples")


def fresh(folder: Path, seen: int) -> None:
    """Remove sheets of another training, or of more than ``seen`` images of this one."""
    for path in folder.glob("????????????.png"):
        if not seen or int(path.stem) > seen:
            path.unlink()
