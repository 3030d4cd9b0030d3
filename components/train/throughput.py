"""How fast a training goes: images and model FLOPs a second, utilisation of the device, energy.

All of it goes to the event stream (components/base/events.py) only, so that no output depends on a clock.  FLOPs are
those of the network's forward and backward pass, counted once on shapes alone; utilisation is relative to the rate of
a matrix product on the device, measured for a fraction of a second in the step's precision and kept for each device.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from components.base import events, files
from components.networks import precision as arithmetic
from components.train.energy import Energy

EVERY = 10.0
"""Seconds between two reports."""

_FIRST = 2
"""Steps that are not counted: during them memory is allocated and algorithms are chosen."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def flops(network: nn.Module, shape: Sequence[int], *, labels: bool, told: Mapping[str, Tensor] | None = None) -> int:
    """FLOPs of ``network`` for one sample of ``shape`` (channels first), forward and backward, two a multiply-add.

    ``told``: a caption by the names of ``forward``, for a network that takes them.
    """
    with torch.device("meta"):
        sample, timestep = torch.zeros(1, *shape), torch.ones(1)
        class_labels = torch.zeros(1, dtype=torch.int64) if labels else None
    more = {name: value.to("meta") for name, value in (told or {}).items()}
    shapes = _shapes(network).requires_grad_(True).train()
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        shapes(sample, timestep, class_labels=class_labels, **more).sample.sum().backward()
    return counter.get_total_flops()


def _shapes(network: nn.Module) -> nn.Module:
    """A copy of ``network`` on torch's meta device; its weights are never copied, of which a GPU may hold no two."""
    without: dict[int, object] = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
        for weight in network.parameters()
    }
    without |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in network.buffers()}
    return copy.deepcopy(network, without)


def at_most(network: nn.Module, shape: Sequence[int]) -> int:
    """A rough upper bound of :func:`flops`, without running anything: three multiply-adds a weight and position.

    Attention is not in it.
    """
    return 6 * math.prod(shape[1:]) * sum(weight.numel() for weight in network.parameters())


def peak(device: torch.device, precision: str, remembered: Path | None = None) -> float:
    """FLOP/s of the fastest of a few matrix products on ``device`` in ``precision``; ``remembered``: a JSON file."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    key = f"{name}, {precision}, torch {torch.__version__}"
    known = _read(remembered)
    if key not in known:
        known[key] = _measured(device, _TYPES[precision])
        if remembered:
            files.write_text(remembered, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known[key]


def _read(path: Path | None) -> dict[str, float]:
    try:
        known = json.loads(path.read_text("utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    numbers = known if isinstance(known, dict) else {}
    return {name: float(rate) for name, rate in numbers.items() if isinstance(rate, int | float) and rate > 0}


def _measured(device: torch.device, kind: torch.dtype) -> float:
    side, times = (8192, 10) if device.type == "cuda" else (768, 5)
    left, right = (torch.ones(side, side, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(times):
        began = _clock(device)
        left @ right
        best = min(best, _clock(device) - began)
    return 2 * side**3 / best


def _clock(device: torch.device) -> float:
    """Seconds of work of the device; on the CPU those of this process alone, whatever else the machine does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


class Throughput:
    """Measures the steps of one rank, and reports for all ``ranks``, which are alike.

    Only clocks of the host are read, so that it never waits for CUDA: steps are queued ahead of the device, but not
    far, so over :data:`EVERY` seconds both rates agree.
    """

    def __init__(
        self, operations: Callable[[], float], device: torch.device, *, precision: str, ranks: int,
        remembered: Path | None,
    ) -> None:  # fmt: skip
        """``operations`` gives the FLOPs of one image, asked once; ``remembered``: see :func:`peak`."""
        self.device, self.ranks, self.remembered = device, ranks, remembered
        self.precision = arithmetic.resolve(device, precision)
        self._operations, self._flops = operations, 0.0
        self._energy = Energy(device)
        self._steps = 0
        self._since: tuple[float, float | None] | None = None
        self._images = 0
        self.note = ""
        """The last report in words, for the progress bar."""

    def advance(self, images: int, *, seen: int) -> None:
        """Count a step of ``images`` over all ranks that ended at ``seen``; report every :data:`EVERY` seconds."""
        self._steps += 1
        if self._steps <= _FIRST:
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now, self._energy.joules()
            return
        self._images += images
        began, joules = self._since
        if now - began >= EVERY:
            values = self._values(now - began, joules)
            events.metrics({f"speed/{name}": value for name, value in values.items()}, step=seen)
            self.note = in_words(values)
            self._since, self._images = (time.monotonic(), self._energy.joules()), 0

    def _values(self, seconds: float, joules: float | None) -> dict[str, float]:
        """The rates over the last ``seconds``; FLOPs and the peak are found here, when they are first needed."""
        if not self._flops:
            self._flops = self._operations()
            self._peak = self.ranks * peak(self.device, self.precision, self.remembered)
        rate = self._images / seconds
        values = {"images_per_second": rate, "flops_per_second": rate * self._flops,
                  "utilisation": rate * self._flops / self._peak}  # fmt: skip
        used = self._energy.joules()
        if joules is not None and used is not None and used > joules:
            values["joules_per_image"] = self._energy.share(self.ranks) * (used - joules) / max(1, self._images)
            values["watts"] = self._energy.share(self.ranks) * (used - joules) / seconds
        return values


def in_words(values: dict[str, float]) -> str:
    """For example ``12.3 GFLOP/s, 45 % of peak, 67 W``; without the power where it is not known."""
    rate, unit = values["flops_per_second"], 0
    while rate >= 1000 and unit < 4:
        rate, unit = rate / 1000, unit + 1
    parts = [f"{rate:.3g} {('', 'k', 'M', 'G', 'T')[unit]}FLOP/s, {100 * values['utilisation']:.0f} % of peak"]
    if "watts" in values:
        parts.append(f"{values['watts']:.0f} W")
    return ", ".join(parts)
