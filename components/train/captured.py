"""Steps by their place: on CUDA all that the device does in one step is a graph, captured once and replayed.

Torch launches a thousand kernels a step, which takes a small network's GPU less time than its host.  A graph holds
them all: what the feed makes on the device, the network, its gradient, the optimiser and the averages.  What changes
from step to step is copied into the graph's own tensors first.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from components.base.errors import brief
from components.dataset import tensors
from components.train.accumulate import OutOfMemory
from components.train.feed import Feed, Given
from components.train.step import Numbers, Step

WARM = 3
"""Steps that are taken kernel by kernel before the capture: during them memory is allocated, algorithms are chosen."""

_log = logging.getLogger(__name__)


class Steps:
    """Takes the steps of one rank; :meth:`forget` when what the optimiser holds has been replaced."""

    def __init__(self, step: Step, feed: Feed) -> None:
        self.step, self.feed = step, feed
        self._graph: _Graph | None = None
        self._taken, self._compiled = 0, step.compiling.on
        self._open = possible(step)
        if self._open and len(feed.pixels.header.shapes) > 1:  # each would need a graph, with memory of its own
            _log.info(
                "pictures have several shapes: the kernels of a step are launched one by one, without a CUDA graph"
            )
            self._open = False

    def __call__(self, place: int, then: int | None, arrived: tuple[bool, bool]) -> Tensor:
        """Learn from the batch at ``place``, before that at ``then``; the row of all ranks, on the device."""
        if not self._open:
            return self.step(self.feed.batch(place, then), arrived)
        given, numbers = self.feed.given(place, then), self.step.numbers(arrived)
        if self._compiled != self.step.compiling.on:
            self.forget()
        if self._graph is None and self._taken >= WARM:
            self._capture(given, numbers)
        if self._graph is not None:
            return self._finished(self._graph(given, numbers))
        self._taken += 1
        with _aside(self.feed.group.device):
            row = self._body(given, numbers)
        return self._finished(row)

    def forget(self) -> None:
        """Drop the graph, which moves the tensors that were there when it was captured; another one follows."""
        self._graph, self._taken, self._compiled = None, 0, self.step.compiling.on

    def _body(self, given: Given, numbers: Numbers) -> Tensor:
        return self.step.take(self.feed.made(given), numbers)

    def _finished(self, row: Tensor) -> Tensor:
        self.step.count()
        return row

    def _capture(self, given: Given, numbers: Numbers) -> None:
        try:
            self._graph = _Graph(self._body, given, numbers, self.feed.group.device)
        except (RuntimeError, OutOfMemory) as error:  # torch's for what a graph cannot hold; it has memory of its own
            _log.warning("no CUDA graph of a step (%s): its kernels are launched one by one", brief(error))
            self._open = False
        self.step.settle()


class _Graph:
    """A captured step and the tensors that it reads."""

    def __init__(
        self, body: Callable[[Given, Numbers], Tensor], given: Given, numbers: Numbers, device: torch.device
    ) -> None:
        self._device = device
        self._given = given.cloned()
        self._numbers = tensors.sent(numbers.listed(), device)
        own = numbers.of(self._numbers)
        self._replay, self._row = capture(lambda: body(self._given, own))

    def __call__(self, given: Given, numbers: Numbers) -> Tensor:
        self._given.take(given)
        self._numbers.copy_(tensors.sent(numbers.listed(), self._device))
        self._replay()
        return self._row.clone()


def possible(step: Step) -> bool:
    """Whether ``step`` can be captured: on CUDA, of one rank, without the scaled losses that fp16 needs."""
    return step.group.device.type == "cuda" and step.group.size == 1 and not step.state.scaler.is_enabled()


def capture(body: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """What computes ``body`` again, on the tensors that it has now, and the tensor of its result; nothing runs yet."""
    torch.cuda.empty_cache()  # a graph has memory of its own: what the steps before it took is free for it
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = body()
    return graph.replay, result


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own, as torch asks of what is captured later."""
    if device.type != "cuda":
        yield
        return
    stream, usual = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)
