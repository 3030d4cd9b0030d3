"""One optimiser step: from a batch to moved weights and a row of numbers, without the host waiting for the device.

Shapes: B images of this rank's part of the batch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components import guards, x0_error
from components.feed import Batch
from components.ranks import Group
from components.recipe import TrainParams
from components.state import State


class Step:
    """The step of one rank on ``state``."""

    def __init__(self, params: TrainParams, state: State, group: Group) -> None:
        self.params, self.state, self.group = params, state, group
        self.model = state.network if group.size == 1 else DistributedDataParallel(
            state.network, gradient_as_bucket_view=True
        )  # fmt: skip

    def __call__(self, batch: Batch, arrived: tuple[bool, bool]) -> Tensor:
        """Learn from ``batch``; the row of all ranks (:mod:`components.guards`), on the device."""
        state = self.state
        losses = self._backward(batch)
        state.scaler.unscale_(state.optimiser)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), self.params.gradient_clip)
        # Equal on all ranks already; its mean makes sure that they decide alike.
        row = self.group.total(guards.row(losses, batch.sigma, norm / self.group.size, arrived))
        self._move(row)
        return row

    def _backward(self, batch: Batch) -> Tensor:
        """Loss of each image, (B,), its gradients added to those of the parameters."""
        # At sampling nobody tells the network, which is as if it were told of zeros.
        model = self.model if batch.done is None else functools.partial(self.model, augment_labels=batch.done)
        with x0_error.autocast(self.group.device, self.params.precision):
            losses = self.params.aim.loss(
                model, batch.image, batch.noise, batch.sigma, batch.labels, self.params.weighting
            )
        self.state.scaler.scale(losses.mean()).backward()
        return losses.detach()

    def _move(self, row: Tensor) -> None:
        """Move the weights unless the step was not finite, then their average."""
        state, params = self.state, self.params
        for settings in state.optimiser.param_groups:
            settings["lr"] = params.rate(state.images_seen)
        guards.move(state.optimiser, row)
        state.scaler.update()
        state.optimiser.zero_grad(set_to_none=True)
        keep = 0.5 ** (params.batch / (params.ema_half_life * (state.images_seen + params.batch)))
        with torch.no_grad():
            torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - keep)
