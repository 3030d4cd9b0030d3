"""Guards of the weights: what is not finite never reaches them, and a leap of the loss is undone.

Shapes: a row is what one step tells, float64 (19,): loss sums by noise level (8), images by level (8), gradient norm,
and how many ranks got SIGTERM and SIGINT.  It stays on the device; on CUDA the host reads it some steps later.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from components.base.errors import UserError
from components.diffusion import schedule
from components.train.params import GuardParams

BAD_STEPS = 10
"""So many steps in a row without a finite gradient end the training."""

SKIPPED = 8
"""Steps left out for a spike, the last of them the one that shows it: the weights may have been led there."""

LOOK_EVERY = 4
"""Steps between two looks of the host at what a CUDA device told."""

_log = logging.getLogger(__name__)


def row(losses_B: Tensor, sigma_B: Tensor, norm: Tensor, arrived: tuple[bool, bool]) -> Tensor:
    """What this rank tells of a step, to be added up over the ranks; ``norm`` counts as its share of one."""
    levels = schedule.level_of(sigma_B)[:, None] == torch.arange(schedule.LEVELS, device=sigma_B.device)
    sums = torch.where(levels, losses_B.double()[:, None], 0.0).sum(0)
    signals = torch.tensor(arrived, dtype=torch.float64).to(sigma_B.device, non_blocking=True)
    return torch.cat([sums, levels.sum(0).double(), norm.double().reshape(1), signals])


def mean_loss(row: Tensor) -> Tensor:
    """The mean loss that a row tells."""
    return row[: schedule.LEVELS].sum() / row[schedule.LEVELS : 2 * schedule.LEVELS].sum()


def move(optimiser: torch.optim.Optimizer, row: Tensor) -> None:
    """Step ``optimiser`` unless loss or gradient is not finite; a fused one decides on the device, unseen by the host.

    torch's fused optimisers leave weights and moments alone where ``found_inf`` is 1; it is how GradScaler asks too.
    """
    bad = ~(mean_loss(row).isfinite() & row[2 * schedule.LEVELS].isfinite())
    if optimiser.defaults.get("fused"):
        optimiser.grad_scale, optimiser.found_inf = None, bad.float().reshape(())
        try:
            optimiser.step()
        finally:
            del optimiser.grad_scale, optimiser.found_inf
    elif not bad:
        optimiser.step()


class Told(NamedTuple):
    """A row that has reached the host."""

    images_seen: int
    """Before the step."""
    place: int
    """Of the step's first image."""
    values: Tensor


class Late:
    """Rows on their way from the device: on the CPU they are there at once, on CUDA four to eight steps later.

    When the host acts on a row changes nothing: going back undoes whatever was done after it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rows: deque[Told] = deque()
        self._moved: deque[tuple[list[Told], Tensor, torch.cuda.Event]] = deque()

    def push(self, told: Told) -> None:
        """Take the row of the step just started."""
        self._rows.append(told)

    def pop(self, *, all_now: bool) -> list[Told]:
        """The rows that have come, in order; ``all_now`` waits for every one."""
        if self.device.type != "cuda":
            out = list(self._rows)
            self._rows.clear()
            return out
        out: list[Told] = []
        if self._rows and (all_now or len(self._rows) >= LOOK_EVERY):
            stacked = torch.stack([told.values for told in self._rows])
            host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            host.copy_(stacked, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._moved.append((list(self._rows), host, event))
            self._rows.clear()
        while self._moved and (all_now or len(self._moved) > 1):
            rows, host, event = self._moved.popleft()
            event.synchronize()
            out += [told._replace(values=values) for told, values in zip(rows, host, strict=True)]
        return out

    def clear(self) -> None:
        """Forget what is under way."""
        self._rows.clear()
        self._moved.clear()


@dataclass(frozen=True)
class Spike:
    """A leap: go back to a checkpoint of at most ``images_seen`` and leave out places ``first`` .. ``last`` - 1."""

    images_seen: int
    first: int
    last: int
    why: str


@dataclass
class Guard:
    """What is remembered of the last steps, equal on every rank."""

    params: GuardParams
    batch: int
    bad_steps: int = 0
    recent: list[list[float]] = field(default_factory=list)
    """Images seen, place, loss and gradient norm of the last steps, oldest first."""
    skips: list[list[int]] = field(default_factory=list)
    """First place and the one after the last, of each window left out."""

    def state_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"bad_steps": self.bad_steps, "recent": [*self.recent], "skips": [*self.skips]}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Become what :meth:`state_dict` gave."""
        self.bad_steps, self.recent, self.skips = saved["bad_steps"], [*saved["recent"]], [*saved["skips"]]

    def after(self, place: int) -> int:
        """``place``, or the first one after it that is not left out."""
        while beyond := [last for first, last in self.skips if first <= place < last]:
            place = max(beyond)
        return place

    def see(self, told: Told) -> Spike | None:
        """Judge one step; UserError after :data:`BAD_STEPS` in a row that are not finite."""
        loss, norm = float(mean_loss(told.values)), float(told.values[2 * schedule.LEVELS])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if self.bad_steps == 0:
                _log.warning("the step after %d images was not finite: left out", told.images_seen)
            self.bad_steps += 1
            if self.bad_steps >= BAD_STEPS:
                raise UserError(
                    f"training broke down: no finite loss or gradient in {BAD_STEPS} steps in a row, up to image "
                    f"{told.images_seen + self.batch}: lower train.learning_rate, or take train.precision fp32"
                )
            return None
        self.bad_steps = 0
        leaps = [
            f"{name} {value:.3g} where {middle:.3g} was usual"
            for name, value, at in (("loss", loss, 2), ("gradient norm", norm, 3))
            if (middle := self._passed([line[at] for line in self.recent], value)) is not None
        ]
        self.recent = [*self.recent, [told.images_seen, told.place, loss, norm]][-max(SKIPPED, self.params.window) :]
        if not leaps:
            return None
        images, first, *_ = self.recent[-SKIPPED:][0]
        return Spike(images, first, told.place + self.batch, " and ".join(leaps))

    def _passed(self, usual: list[float], value: float) -> float | None:
        """The median of ``usual`` when ``value`` leaps above it; deviations below 1 % of it count as that."""
        if self.params.spike is None or len(usual) < self.params.window:
            return None
        middle = statistics.median(usual)
        spread = max(0.01 * middle, statistics.median(abs(one - middle) for one in usual))
        return middle if value > middle + self.params.spike * spread else None
