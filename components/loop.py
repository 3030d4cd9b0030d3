"""The training loop: from a checkpoint or from nothing to the averaged weights, one step at a time.

Shapes: B images of the whole batch, of which each rank takes its part; C, H, W of an image.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components import checkpoint, data, events, history, pack, schedule, x0_error
from components.errors import UserError
from components.ranks import Group, together
from components.recipe import TrainParams
from components.state import State, start

BAD_STEPS = 10
"""So many steps in a row without a finite gradient end the training."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to fit to what, and where to keep checkpoints."""

    params: TrainParams
    pixels: Path
    splits: Path
    folder: Path

    def command(self) -> list[str]:
        """Arguments of Python that start one more rank of this job."""
        paths = {name: str(getattr(self, name).absolute()) for name in ("pixels", "splits", "folder")}
        return ["-m", "components.loop", json.dumps({"params": self.params.model_dump(mode="json"), **paths})]


def fit(job: Job, group: Group) -> State:
    """Train to the end of the budget; SystemExit 128 + n, with all saved, when signal n asks to stop."""
    pixels, params = data.Pixels(job.pixels), job.params
    train_rows = torch.tensor(list(pack.read_split(job.splits, "train")))
    checked = history.checked(job.pixels, job.splits, params.validate_images)
    state = start(params, pixels, group)
    _resume(job, state, group)
    model = state.network if group.size == 1 else DistributedDataParallel(
        state.network, gradient_as_bucket_view=True
    )  # fmt: skip
    total = params.total_steps * params.batch
    line_every = max(1, params.total_steps // history.LINES)
    checks = {round(params.total_steps * (i + 1) / params.validations) for i in range(params.validations)}
    saved = state.images_seen
    with _signals() as arrived, _progress(group, total, state.images_seen) as progress:
        while state.images_seen < total:
            stop, loss = _step(params, model, state, pixels, train_rows, group, arrived)
            step = state.images_seen // params.batch
            if step % line_every == 0 or state.images_seen == total:
                history.note(state, params, group)
            if step in checks:
                history.validate(state, params, checked, pixels, group)
            if progress:
                progress.advance(params.batch, note=f"loss {loss:.3f}")
            due = state.images_seen - saved >= params.checkpoint_images
            if stop or due or state.images_seen == total:
                saved = state.images_seen
                _save(job, state, group, stop)
            if stop:
                raise SystemExit(128 + stop)
    return state


def _save(job: Job, state: State, group: Group, stop: int) -> None:
    """Write a checkpoint (rank 0), and say so when ``stop``, a signal, is why."""
    if group.rank == 0:
        checkpoint.save(job.folder, state.images_seen, state.pack())
        if stop:
            name = signal.Signals(stop).name
            _log.warning("stopped by %s; all %d images are saved: run it again, it goes on", name, state.images_seen)


def _step(
    params: TrainParams, model: nn.Module, state: State, pixels: data.Pixels, train_rows: Tensor, group: Group,
    arrived: list[int],
) -> tuple[int, float]:  # fmt: skip
    """One optimiser step; (signal on which all ranks agree or 0, mean loss)."""
    header, step = pixels.header, state.images_seen // params.batch
    rows = train_rows[group.part(data.positions(params.seed, step, params.batch, len(train_rows)))]
    shape = (params.batch, header.channels, header.side, header.side)
    noise, share, dropped = map(group.part, data.draw(params.seed, step, shape, params.label_dropout))
    labels = None
    if header.classes:
        null = len(header.classes)
        labels = x0_error.labels_for(pixels.class_ids[rows].masked_fill(dropped, null), null).to(group.device)
    image = pixels.batch(rows, group.device)
    objective = params.aim
    sigma = params.levels_met.sigma(share, objective.schedule).to(group.device)
    with x0_error.autocast(group.device, params.precision):
        losses = objective.loss(model, image, noise.to(group.device), sigma, labels, params.weighting)
    state.scaler.scale(losses.mean()).backward()
    state.scaler.unscale_(state.optimiser)
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), params.gradient_clip))
    by_level, loss, stop = _agree(losses.detach(), sigma, arrived, group)
    _apply(params, state, math.isfinite(norm) and math.isfinite(loss))
    state.images_seen += params.batch
    if state.bad_steps == 0:
        state.sums += torch.cat([by_level, torch.tensor([loss, norm, 1.0], dtype=torch.float64)])
    elif state.bad_steps >= BAD_STEPS:
        raise UserError(
            f"training broke down: no finite loss or gradient in {BAD_STEPS} steps in a row, up to image "
            f"{state.images_seen}: lower train.learning_rate, or take train.precision fp32"
        )
    return stop, loss


def _apply(params: TrainParams, state: State, finite: bool) -> None:
    """Move the weights and their average; a step that is not finite never reaches either."""
    if finite:
        for settings in state.optimiser.param_groups:
            settings["lr"] = params.rate(state.images_seen)
        state.scaler.step(state.optimiser)
        seen = state.images_seen + params.batch
        keep = 0.5 ** (params.batch / (params.ema_half_life * seen))
        with torch.no_grad():
            torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - keep)
    elif state.bad_steps == 0:
        _log.warning("the step after %d images was not finite: left out", state.images_seen)
    state.scaler.update()
    state.optimiser.zero_grad(set_to_none=True)
    state.bad_steps = 0 if finite else state.bad_steps + 1


def _agree(losses: Tensor, sigma: Tensor, arrived: list[int], group: Group) -> tuple[Tensor, float, int]:
    """Over all ranks: loss sums and counts by level (16,), mean loss, the signal to stop for (0: none)."""
    levels = schedule.level_of(sigma).cpu()
    told = torch.zeros(2 * schedule.LEVELS + 2, dtype=torch.float64)
    told.index_add_(0, levels, losses.double().cpu())
    told.index_add_(0, levels + schedule.LEVELS, torch.ones(len(levels), dtype=torch.float64))
    told[-2] = signal.SIGTERM in arrived
    told[-1] = signal.SIGINT in arrived
    told = group.sum(told)
    stop = int(signal.SIGTERM if told[-2] else signal.SIGINT if told[-1] else 0)
    by_level = told[:-2]
    sums, counts = by_level.view(2, -1)
    return by_level, float(sums.sum() / counts.sum()), stop


def _resume(job: Job, state: State, group: Group) -> None:
    """Go on from the last whole checkpoint, if there is one; every rank from the same."""
    saved = checkpoint.load(job.folder, group.device) if group.rank == 0 else None
    group.wait()  # rank 0 removes what is damaged before the others look
    if group.rank:
        saved = checkpoint.load(job.folder, group.device)
    if saved:
        state.unpack(saved)
        if group.rank == 0:
            _log.info("going on from the checkpoint after %d images", state.images_seen)
    if group.sum(torch.tensor([float(state.images_seen)])) != group.size * state.images_seen:
        raise UserError(f"the ranks see different checkpoints in {job.folder}: it must be a shared folder")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list in place of acting on them."""
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(group: Group, total: int, start: int) -> Iterator[events.Progress | None]:
    if group.rank:
        yield None
        return
    with events.Progress(total, what="train", start=start) as progress:
        yield progress


def _follow() -> None:
    """Be one more rank of the job in the first argument."""
    told = json.loads(sys.argv[1])
    params = TrainParams.model_validate_json(json.dumps(told.pop("params")))
    job = Job(params=params, **{name: Path(value) for name, value in told.items()})
    logging.disable(logging.INFO)
    # A UserError meets rank 0 too, which says it.
    with together(params.ranks, job.folder, []) as group, contextlib.suppress(UserError):
        fit(job, group)
        group.wait()


if __name__ == "__main__":
    _follow()
