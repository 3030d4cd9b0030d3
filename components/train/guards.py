"""Guards of the weights: a step that is not finite never moves them, and a spike of the loss is undone.

Shapes: B images of a rank's part of the batch.  A row holds the statistics of one step, float64 (19,): the sum of the
losses in each band of noise levels (8), the number of images in each band (8), the gradient norm, and how many ranks
received SIGTERM and SIGINT.  It stays on the device; on CUDA the host reads it some steps later.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from components.base.errors import UserError
from components.diffusion import schedule
from components.train.params import GuardParams

BAD_STEPS = 10
"""The training ends after this many steps in a row whose loss or gradient is not finite."""

SKIPPED = 8
"""Steps whose images are left out for a spike: the one that shows it and those before it, which may have caused it."""

READ_EVERY = 4
"""Steps between two copies of their rows from a CUDA device to the host."""

_log = logging.getLogger(__name__)


def row(losses_B: Tensor, sigma_B: Tensor, norm: Tensor, arrived: Sequence[float | Tensor]) -> Tensor:
    """This rank's row of a step, (19,) on its device; the sum over the ranks is the row of the whole step.

    ``norm`` is the gradient norm divided by the number of ranks; ``arrived``: 1 where SIGTERM, and where SIGINT, was
    received, else 0, as numbers or tensors (0-dim).
    """
    in_band = schedule.band_of(sigma_B)[:, None] == torch.arange(schedule.BANDS, device=sigma_B.device)
    sums = torch.where(in_band, losses_B.double()[:, None], 0.0).sum(0)
    # Kernels: a GPU would wait for a copy.
    signals = [
        each.double().reshape(1) if isinstance(each, Tensor) else sums.new_full((1,), float(each)) for each in arrived
    ]
    return torch.cat([sums, in_band.sum(0).double(), norm.double().reshape(1), *signals])


def mean_loss(row: Tensor) -> Tensor:
    """The mean loss over the images of a row, a scalar on its device."""
    return row[: schedule.BANDS].sum() / row[schedule.BANDS : 2 * schedule.BANDS].sum()


def move(optimiser: torch.optim.Optimizer, row: Tensor) -> None:
    """Step ``optimiser`` unless the loss or the gradient norm is not finite.

    A fused optimiser decides on the device, so that the host need not wait: torch's leave weights and moments alone
    where ``found_inf`` is 1 (GradScaler skips steps in the same way).
    """
    bad = ~(mean_loss(row).isfinite() & row[2 * schedule.BANDS].isfinite())
    if optimiser.defaults.get("fused"):
        fused: Any = optimiser  # Optimizer does not declare these two attributes, which its fused subclasses read
        fused.grad_scale, fused.found_inf = None, bad.float().reshape(())
        try:
            optimiser.step()
        finally:
            del fused.grad_scale, fused.found_inf
    elif not bad:
        optimiser.step()


class StepStats(NamedTuple):
    """The statistics of one step and where in the training it was."""

    images_seen: int
    """Before the step."""
    place: int
    """Of the step's first image."""
    row: Tensor
    """Float64 (19,); on the host once :meth:`DelayedReadback.pop` has returned it."""

    @property
    def loss(self) -> Tensor:
        """The mean loss over the images of the step, a scalar."""
        return mean_loss(self.row)

    @property
    def norm(self) -> Tensor:
        """The norm of the step's gradient before clipping, a scalar."""
        return self.row[2 * schedule.BANDS]

    def arrived(self) -> tuple[float, float]:
        """How many ranks had received SIGTERM and SIGINT."""
        terminate, interrupt = self.row[-2:].tolist()
        return terminate, interrupt


class DelayedReadback:
    """Copies rows to the host without making it wait: on the CPU at once, on CUDA four to eight steps later.

    The delay does not change the result: going back to a checkpoint undoes every step after the one that is judged.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rows: deque[StepStats] = deque()
        self._copies: deque[tuple[list[StepStats], Tensor, torch.cuda.Event]] = deque()

    def push(self, stats: StepStats) -> None:
        """Add the step that was just started; its row may still be computed on the device."""
        self._rows.append(stats)

    def pop(self, *, all_now: bool) -> list[StepStats]:
        """The steps whose rows have reached the host, in order; ``all_now`` waits for every one."""
        out: list[StepStats] = []
        if self.device.type != "cuda":
            out += self._rows
            self._rows.clear()
            return out
        if self._rows and (all_now or len(self._rows) >= READ_EVERY):
            stacked = torch.stack([stats.row for stats in self._rows])
            host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            host.copy_(stacked, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._copies.append((list(self._rows), host, event))
            self._rows.clear()
        while self._copies and (all_now or len(self._copies) > 1):
            steps, host, event = self._copies.popleft()
            event.synchronize()
            out += [stats._replace(row=row) for stats, row in zip(steps, host, strict=True)]
        return out

    def clear(self) -> None:
        """Drop the steps that have not been read yet."""
        self._rows.clear()
        self._copies.clear()


@dataclass(frozen=True)
class Spike:
    """A spike of the loss or of the gradient norm, and what undoes it.

    Go back to a checkpoint of at most ``images_seen`` images and leave out places ``first`` .. ``last`` - 1.
    """

    images_seen: int
    first: int
    last: int
    why: str


@dataclass
class Guard:
    """Judges each step by the last ones; its state is equal on every rank and part of the checkpoint."""

    params: GuardParams
    batch: int
    bad_steps: int = 0
    """Steps in a row, up to now, that were not finite."""
    recent: list[tuple[int, int, float, float]] = field(default_factory=list)
    """Images seen, place, loss and gradient norm of the last steps, oldest first."""
    skips: list[list[int]] = field(default_factory=list)
    """First place and the one after the last, of each window left out."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"bad_steps": self.bad_steps, "recent": [[*line] for line in self.recent], "skips": [*self.skips]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.bad_steps, self.skips = saved["bad_steps"], [*saved["skips"]]
        self.recent = [(seen, place, loss, norm) for seen, place, loss, norm in saved["recent"]]

    def after(self, place: int) -> int:
        """``place``, or the first one after it that is not left out."""
        while beyond := [last for first, last in self.skips if first <= place < last]:
            place = max(beyond)
        return place

    def see(self, stats: StepStats) -> Spike | None:
        """The spike that one step shows, None for a usual step or one that is not finite.

        UserError after :data:`BAD_STEPS` steps in a row that are not finite.
        """
        loss, norm = float(stats.loss), float(stats.norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if self.bad_steps == 0:
                _log.warning("the step after %d images was not finite: left out", stats.images_seen)
            self.bad_steps += 1
            if self.bad_steps >= BAD_STEPS:
                raise UserError(
                    f"training broke down: no finite loss or gradient in {BAD_STEPS} steps in a row, up to image "
                    f"{stats.images_seen + self.batch}: lower train.learning_rate, or take train.precision fp32"
                )
            return None
        self.bad_steps = 0
        spikes = [
            f"{name} {value:.3g} where {median:.3g} was usual"
            for name, value, usual in (
                ("loss", loss, [line[2] for line in self.recent]),
                ("gradient norm", norm, [line[3] for line in self.recent]),
            )
            if (median := self._exceeded(usual, value)) is not None
        ]
        self.recent = [*self.recent, (stats.images_seen, stats.place, loss, norm)][-max(SKIPPED, self.params.window) :]
        if not spikes:
            return None
        images, first, *_ = self.recent[-SKIPPED:][0]
        return Spike(images, first, stats.place + self.batch, " and ".join(spikes))

    def _exceeded(self, usual: list[float], value: float) -> float | None:
        """The median of ``usual`` when ``value`` is a spike above it, else None.

        Measured in median absolute deviations, taken as at least 1 % of the median.
        """
        if self.params.spike is None or len(usual) < self.params.window:
            return None
        median = statistics.median(usual)
        deviation = max(0.01 * median, statistics.median(abs(one - median) for one in usual))
        return median if value > median + self.params.spike * deviation else None
