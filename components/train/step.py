"""One optimiser step: from a batch to moved weights and a row of numbers, without the host waiting for the device.

Shapes: B images of this rank's part of the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.diffusion import conditions
from components.networks import precision, registry
from components.train import accumulate, aims, guards, throughput
from components.train.compiling import Compiling
from components.train.distributed import sharding
from components.train.distributed.ranks import Group
from components.train.feed import Batch
from components.train.params import TrainParams
from components.train.state import State


class Numbers(NamedTuple):
    """What a step takes besides its batch: numbers of the host, or tensors (0-dim) on its device."""

    pace: float | Tensor
    """The share of the learning rates."""
    gap: float | Tensor
    """What the aim's losses need (:meth:`components.train.aims.Aim.gap`)."""
    shares: Sequence[float | Tensor]
    """What the new weights count in each average, 0..1."""
    arrived: Sequence[float | Tensor]
    """1 where SIGTERM, and where SIGINT, was received, else 0."""

    def listed(self) -> Tensor:
        """All of them, (N,), on the CPU."""
        return torch.tensor([self.pace, self.gap, *self.shares, *self.arrived])

    def of(self, values: Tensor) -> Numbers:
        """The same numbers as views of ``values``, which has the form of :meth:`listed`."""
        pace, gap, *shares = values.unbind()
        return Numbers(pace, gap, shares[: len(self.shares)], shares[len(self.shares) :])


class Step:
    """The step of one rank on ``state``, towards ``aim``; None: denoising."""

    def __init__(self, params: TrainParams, state: State, group: Group, aim: aims.Aim | None = None) -> None:
        self.params, self.state, self.group = params, state, group
        self.aim = aim or aims.Denoising(state.objective, params.weighting)
        share = params.batch // group.size
        found = state.micro if group.device.type == "cuda" and params.micro_batch == "auto" else 0
        self.micro = min(found, share) or accumulate.size(params.micro_batch, share, group, self._attempt)
        state.micro = self.micro
        self.model = state.network
        if group.size > 1 and not state.in_one and not state.sharded:
            # Without static_graph, by which weights in channels-last memory got wrong gradients (torch 2.14.1).
            # No network here changes its buffers.
            self.model = DistributedDataParallel(state.network, gradient_as_bucket_view=True, broadcast_buffers=False)
        self.compiling = Compiling(
            params.compile, state.network, group.device, on=state.compiled, operations=self._operations,
            before=state.restride, shapes=len(state.shapes),
        )  # fmt: skip
        self._done = 0

    def __call__(self, batch: Batch, arrived: tuple[bool, bool]) -> Tensor:
        """Learn from ``batch``; the row of all ranks (:mod:`components.train.guards`), on the device."""
        row = self.take(batch, self.numbers(arrived))
        self.count()
        return row

    def numbers(self, arrived: tuple[bool, bool]) -> Numbers:
        """Those of the next step; ``arrived``: whether SIGTERM and SIGINT were received."""
        params, seen = self.params, self.state.images_seen
        shares = self.state.averages.shares(seen + params.batch, params.batch)
        gap = self.aim.gap(seen / (params.total_steps * params.batch))
        return Numbers(params.pace(seen), gap, shares, [float(each) for each in arrived])

    def take(self, batch: Batch, numbers: Numbers) -> Tensor:
        """All that the device does in a step: its row, and the weights moved."""
        try:
            return self._step(batch, numbers)
        except torch.OutOfMemoryError:
            raise accumulate.OutOfMemory(
                f"memory is full in a step that computes {self.micro} images at once: take a train.micro_batch below "
                "that; training goes on from its last checkpoint"
            ) from None

    def count(self) -> None:
        """Count a step that was taken; it may be the one after which the network is compiled."""
        self._done += 1
        self.compiling.step(self._done, self.params.total_steps - self.state.images_seen // self.params.batch)
        self.state.compiled = self.compiling.on

    def settle(self) -> None:
        """Leave nothing of a step that was captured and not taken: its gradients, and its tensors as rates."""
        self.state.optimiser.zero_grad(set_to_none=True)
        for settings in self.state.optimiser.param_groups:
            settings["lr"] = settings["peak"]

    def _step(self, batch: Batch, numbers: Numbers) -> Tensor:
        state = self.state
        losses = self._backward(batch, numbers.gap)
        state.scaler.unscale_(state.optimiser)
        norm = sharding.norm(nn.utils.clip_grad_norm_(state.weights, self.params.gradient_clip))
        # Equal on all ranks already; its mean makes sure that they decide alike.
        row = self.group.total(guards.row(losses, batch.sigma, norm / self.group.size, numbers.arrived))
        self._move(row, numbers)
        return row

    def _backward(self, batch: Batch, gap: float | Tensor) -> Tensor:
        """Loss of each image, (B,), its gradients added to those of the parameters."""

        def losses(piece: slice) -> Tensor:
            with precision.autocast(self.group.device, self.params.precision):
                return self.aim.losses(self.model, batch.part(piece), gap)

        found = accumulate.backward(self.model, losses, len(batch.sigma), self.micro, self.state.scaler.scale)
        if self.state.in_one:
            gradient = self.state.weights[0].grad
            assert gradient is not None, "backward has just filled it"
            self.group.mean(gradient)
        return found

    def _attempt(self, count: int) -> None:
        """Compute a gradient of ``count`` images and drop it; torch.OutOfMemoryError when they are too many.

        What a step holds meanwhile is there: gradients of the pieces before, moments; and what the optimiser needs
        besides is taken after it.
        """
        state, device = self.state, self.group.device
        shape = state.largest
        fresh = not state.optimiser.state
        try:
            for weight in state.weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            state.optimiser.rehearse()
            image, sigma = torch.zeros(count, *shape, device=device), torch.ones(count, device=device)
            nothing = torch.zeros(count, dtype=torch.int64, device=device)
            condition = conditions.of_classes(nothing, registry.labels(state.network) or None)
            condition = {**condition, **registry.captions(state.network, count, device=device)}
            with precision.autocast(device, self.params.precision):
                losses = self.aim.losses(state.network, Batch(image, image, sigma, condition), self.aim.gap(0.0))
            state.scaler.scale(losses.mean()).backward()
            state.optimiser.rehearse()
        finally:
            if fresh:
                state.optimiser.state.clear()
            state.optimiser.zero_grad(set_to_none=not state.in_one)

    def _operations(self) -> float:
        """FLOPs of this rank in the whole training; a bound on them where even that is little."""
        images = self.params.images / self.group.size
        bound = images * _mean(self.state, throughput.at_most)
        if self.state.sharded or bound < 1e12:
            return bound
        return images * operations(self.state)

    def _move(self, row: Tensor, numbers: Numbers) -> None:
        """Move the weights unless the step was not finite, then their averages."""
        state = self.state
        for settings in state.optimiser.param_groups:
            settings["lr"] = settings["peak"] * numbers.pace
        guards.move(state.optimiser, row)
        state.scaler.update()
        state.optimiser.zero_grad(set_to_none=not state.in_one)  # in one, they are views of one vector for ever
        with torch.no_grad():
            state.averages.update(state.weights, numbers.shares)


def operations(state: State) -> float:
    """FLOPs of one image, forward and backward, on average; of a sharded network it is not counted (a bound)."""
    if state.sharded:
        return _mean(state, throughput.at_most)
    network = state.network
    count = functools.partial(throughput.flops, labels=registry.labels(network) > 0, told=registry.captions(network, 1))
    return _mean(state, count)


def _mean(state: State, count: Callable[[nn.Module, tuple[int, ...]], int]) -> float:
    """The mean over the samples of what ``count`` gives for their shapes."""
    return sum(share * count(state.network, shape) for shape, share in state.shapes.items())
