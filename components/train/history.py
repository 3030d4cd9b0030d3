"""The lines of history.jsonl: what training says of itself, in images seen and without a clock."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from components.base import events
from components.dataset import tensors
from components.diffusion import conditions, schedule, x0_error
from components.networks import precision
from components.samples import pack
from components.train import guards
from components.train.distributed.ranks import Group
from components.train.params import TrainParams
from components.train.state import State

LINES = 100
"""Training lines, about."""

NORMAL_95 = 1.96
"""Standard errors on either side of a mean that hold 95 % of a normal distribution."""

_MOST = 700.0
"""Beyond it `math.exp` overflows."""

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
        for band in range(schedule.BANDS):
            if counts[band]:
                values[f"loss/level_{band}"] = float(sums[band] / counts[band])
        _record(state, values, group)
    state.sums = torch.zeros_like(state.sums)


def add(state: State, stats: guards.StepStats) -> None:
    """Count one step in the means of the next training line; one that was not finite does not count."""
    loss, norm = stats.loss, stats.norm
    if loss.isfinite() and norm.isfinite():
        state.sums += torch.cat([stats.row[: 2 * schedule.BANDS], torch.stack([loss, norm, torch.ones_like(loss)])])


def in_words(state: State) -> str:
    """The last loss and the last x0 error, for the progress bar."""
    loss = f"loss {state.guard.recent[-1][2]:.3f}" if state.guard.recent else ""
    errors = [line["x0_error"] for line in state.history[-2 * LINES :] if line.get("x0_error")]
    return ", ".join(filter(None, (loss, f"x0 error {errors[-1]:.4f}" if errors else "")))


def skipped(state: State, images: int, group: Group) -> None:
    """Add the line that says how many images are left out here."""
    _record(state, {"skipped_images": images}, group)


def regrouped(state: State, before: tuple[int, int], group: Group) -> None:
    """Add the line that says that other ranks, or other pieces, go on from here than made the checkpoint.

    ``before`` are the ranks, and the images that one of them computed at once, up to here.
    """
    _record(state, {"ranks": state.ranks, "micro_batch": state.micro}, group)
    if group.rank == 0:
        _log.warning(
            "the checkpoint is of ranks: %d, images at a time: %d; it goes on with ranks: %d, images at a time: %d. "
            "Sums are rounded otherwise, so the last digits will differ", *before, state.ranks, state.micro,
        )  # fmt: skip


def validate(
    state: State, params: TrainParams, checked: Checked, pixels: tensors.Pixels, group: Group, poll: Callable[[], int]
) -> int:  # fmt: skip
    """Add a validation line: the x0 error of the averaged weights on the images of ``checked``, with its interval.

    It is measured in fp32, whatever the training's precision.  Where it is not finite the line holds null.

    ``poll`` is asked after each part, on every rank alike; a signal that it gives ends the check, and is returned.
    """
    groups = [checked.rows[some] for some in pixels.grouped(checked.rows)]
    keys = dict(zip(checked.rows.tolist(), checked.keys, strict=True))
    if state.sharded:  # the ranks gather the weights together, so each makes as many calls
        groups = [rows[: len(rows) - len(rows) % group.size] for rows in groups]
    count, batch = sum(map(len, groups)), 64
    if count == 0:
        return 0

    def denoise(noisy: Tensor, sigma: Tensor, part: conditions.Condition) -> Tensor:
        with precision.exact(group.device):  # as stage `evaluate` measures it
            return state.objective.denoise(state.average, noisy, sigma, part)

    def errors_of(rows: Tensor) -> Iterator[Tensor]:
        """Of validation images of one shape, those of this rank."""
        chosen, condition = pixels.gather(rows), pixels.condition(rows)
        return x0_error.measure(
            denoise, lambda which: tensors.to_network(chosen[which], group.device, spec=pixels.header.spec), condition,
            [keys[row] for row in rows.tolist()], seed=params.seed, batch=batch,
        )  # fmt: skip

    measured = itertools.chain.from_iterable(errors_of(rows[group.rank :: group.size]) for rows in groups)
    parts = [torch.zeros(0)]
    most = [math.ceil(len(rows) / group.size) for rows in groups]  # images of the rank with most
    for _ in range(sum(math.ceil(each * len(schedule.SIGMAS) / batch) for each in most)):
        parts.append(next(measured, torch.zeros(0)))
        if stop := poll():
            return stop
    errors = torch.cat(parts).view(-1, len(schedule.SIGMAS)).double()
    means = group.sum(errors.sum(0)) / count
    error = x0_error.geo(means[None])
    # The logarithm of the error is, to first order, a mean over the images of their mean relative error.
    relative = (errors / means - 1).mean(1)
    deviation = (float(group.sum(relative.square().sum().reshape(1))) / max(1, count - 1) / count) ** 0.5
    ends = (-NORMAL_95 * deviation, NORMAL_95 * deviation)
    low, high = (error * math.exp(each) if each < _MOST else math.inf for each in ends)
    values = {"x0_error": error, "x0_error_low": low, "x0_error_high": high}
    values |= {f"x0_error/sigma_{sigma:.3g}": float(mean) for sigma, mean in zip(schedule.SIGMAS, means, strict=True)}
    _record(state, values, group)
    _compare(state, params, error)
    if group.rank == 0 and math.isfinite(error):
        _log.info("after %d images the x0 error is %.4f", state.images_seen, error)
    elif group.rank == 0:
        words = "after %d images the x0 error is not finite: recorded as null, never the best"
        _log.warning(words, state.images_seen)
    return 0


def _compare(state: State, params: TrainParams, error: float) -> None:
    """With patience, keep the averaged weights of the best check; one that is not finite is a worse one."""
    best = state.best
    if params.patience is None:
        return
    if math.isfinite(error) and error < best.error:
        weights = {name: value.clone() for name, value in state.average.state_dict().items()}
        best.error, best.images_seen, best.worse, best.weights = error, state.images_seen, 0, weights
    else:
        best.worse += 1


def _record(state: State, values: dict[str, float], group: Group) -> None:
    values = {name: float(f"{value:.6g}") for name, value in values.items()}
    state.history.append({
        "step": state.images_seen, **{name: value if math.isfinite(value) else None for name, value in values.items()}
    })  # fmt: skip
    if group.rank == 0:
        events.metrics(values, step=state.images_seen)
