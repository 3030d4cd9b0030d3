"""How fast a training goes: images and model FLOPs a second, the share of what the device can do, energy.

Everything here is told to who watches (components/base/events.py) and to nobody else: outputs hold no clock.  FLOPs are
those of the network's forward and backward pass, counted once on shapes alone; the device's peak is what its matrix
product reaches, measured for a fraction of a second in the step's precision and remembered for each device.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from components.base import events, files
from components.networks import precision as arithmetic
from components.train.energy import Energy

EVERY = 10.0
"""Seconds between two measurements."""

_FIRST = 2
"""Steps that are not counted: memory is allocated, algorithms are chosen."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def flops(network: nn.Module, *, side: int, channels: int, labels: bool) -> int:
    """Floating-point operations of ``network`` for one image, forward and backward; two for a multiply and add."""
    with torch.device("meta"):
        image, told = torch.zeros(1, channels, side, side), torch.ones(1)
        class_labels = torch.zeros(1, dtype=torch.int64) if labels else None
    shapes = copy.deepcopy(network).to("meta").requires_grad_(True).train()
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        shapes(image, told, class_labels=class_labels).sample.sum().backward()
    return counter.get_total_flops()


def at_most(network: nn.Module, side: int) -> int:
    """A bound on :func:`flops` that costs nothing: each weight meets each pixel once forward and twice backward."""
    return 6 * side**2 * sum(weight.numel() for weight in network.parameters())


def peak(device: torch.device, precision: str, remembered: Path | None = None) -> float:
    """FLOP/s of the best of a few matrix products on ``device`` in ``precision``; kept in ``remembered``, a JSON."""
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
    """Seconds of the device's work: on the CPU those of its threads, whatever else the machine does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


class Throughput:
    """Follows the steps of one rank that speaks for ``ranks`` alike; the host reads clocks, never the device.

    Steps are queued on CUDA ahead of the device, but never far: over :data:`EVERY` seconds the two agree.
    """

    def __init__(
        self, operations: Callable[[], float], device: torch.device, *, precision: str, ranks: int,
        remembered: Path | None,
    ) -> None:  # fmt: skip
        """``operations`` tells the FLOPs of an image, when they are first wanted; ``remembered`` is :func:`peak`'s."""
        self.device, self.ranks, self.remembered = device, ranks, remembered
        self.precision = arithmetic.resolve(device, precision)
        self._operations, self._flops = operations, 0.0
        self._energy = Energy(device)
        self._steps = 0
        self._since: tuple[float, float | None] | None = None
        self._images = 0
        self.note = ""
        """For the progress bar."""

    def advance(self, images: int, *, seen: int) -> None:
        """Count a step of ``images`` over all ranks that ended at ``seen``; measure when it is time."""
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
            self.note = told(values)
            self._since, self._images = (time.monotonic(), self._energy.joules()), 0

    def _values(self, seconds: float, joules: float | None) -> dict[str, float]:
        """What the last ``seconds`` gave; counting and measuring the peak wait until there is somebody to tell."""
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


def told(values: dict[str, float]) -> str:
    """``12.3 GFLOP/s, 45 % of peak, 67 W`` as far as it is known."""
    rate, unit = values["flops_per_second"], 0
    while rate >= 1000 and unit < 4:
        rate, unit = rate / 1000, unit + 1
    parts = [f"{rate:.3g} {('', 'k', 'M', 'G', 'T')[unit]}FLOP/s, {100 * values['utilisation']:.0f} % of peak"]
    if "watts" in values:
        parts.append(f"{values['watts']:.0f} W")
    return ", ".join(parts)
