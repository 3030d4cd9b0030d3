"""The lines of history.jsonl: what training says of itself, in images seen and without a clock."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from components import data, events, pack, schedule, x0_error
from components.ranks import Group
from components.recipe import TrainParams
from components.state import State

LINES = 100
"""Training lines, about."""

_log = logging.getLogger(__name__)


class Checked(NamedTuple):
    """The validation images of each check."""

    rows: Tensor
    keys: list[str]


def checked(pixels: Path, splits: Path, most: int) -> Checked:
    """At most ``most`` images, spread over the validation split."""
    rows = torch.tensor(list(pack.read_split(splits, "val")), dtype=torch.int64)
    count = min(len(rows), most)
    rows = rows[torch.arange(count) * len(rows) // max(1, count)]
    keys = pack.read_keys(pixels)
    return Checked(rows, [keys[row] for row in rows.tolist()])


def note(state: State, params: TrainParams, group: Group) -> None:
    """Add a training line to the history: means since the last one."""
    sums, counts = state.sums[:-3].view(2, -1)
    loss, norm, steps = state.sums[-3:].tolist()
    if steps:
        values = {"loss": loss / steps, "grad_norm": norm / steps,
                  "learning_rate": params.rate(state.images_seen - params.batch)}  # fmt: skip
        for level in range(schedule.LEVELS):
            if counts[level]:
                values[f"loss/level_{level}"] = float(sums[level] / counts[level])
        _record(state, values, group)
    state.sums = torch.zeros_like(state.sums)


def validate(state: State, params: TrainParams, checked: Checked, pixels: data.Pixels, group: Group) -> None:
    """Add a validation line: the x0 error of the averaged weights on the images of ``checked``."""
    count = len(checked.rows)
    if count == 0:
        return
    mine = slice(group.rank, None, group.size)
    rows = checked.rows[mine]
    sums = torch.zeros(schedule.LEVELS, dtype=torch.float64)
    if len(rows):
        null = len(pixels.header.classes) or None
        parts = x0_error.measure(
            state.average, params.aim, pixels.gather(rows), x0_error.labels_for(pixels.class_ids[rows], null),
            checked.keys[mine], seed=params.seed, precision=params.precision,
        )  # fmt: skip
        sums += torch.cat(list(parts)).view(len(rows), -1).double().sum(0)
    means = group.sum(sums) / count
    values = {"x0_error": x0_error.geo(means[None])}
    values |= {f"x0_error/sigma_{sigma:.3g}": float(mean) for sigma, mean in zip(schedule.SIGMAS, means, strict=True)}
    _record(state, values, group)
    if group.rank == 0:
        _log.info("after %d images the x0 error is %.4f", state.images_seen, values["x0_error"])


def _record(state: State, values: dict[str, float], group: Group) -> None:
    values = {name: float(f"{value:.6g}") for name, value in values.items()}
    state.history.append({"step": state.images_seen, **values})
    if group.rank == 0:
        events.metrics(values, step=state.images_seen)
