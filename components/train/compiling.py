"""Whether ``torch.compile`` pays within what is left of a training.

On the CPU the answer is a function of the parameters and the network alone, since a compiled step rounds otherwise
and the same inputs give the same bytes; on CUDA it follows the measured time of a step and goes into the checkpoint.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable

import torch
from torch import nn

from components.base.errors import UserError

CPU_COST, CPU_GAIN = 106.0, 0.115
"""Seconds that compiling takes on one core, and the share of the step that it saves (measured: even after 920 s)."""

CUDA_COST, CUDA_GAIN = 60.0, 0.2
"""The same on a GPU: cautious figures, not measured here."""

CPU_RATE = 25e9
"""Floating-point operations a second of one core, in float32 with AVX2: the order of magnitude is what matters."""

_FIRST, _LAST = 5, 25
"""Steps between which a CUDA step is timed: before, memory is allocated and algorithms are chosen."""

_log = logging.getLogger(__name__)


def pays(seconds: float, cost: float, gain: float) -> bool:
    """Whether ``cost`` seconds of compiling save more than they take of the next ``seconds``."""
    return seconds * gain > cost


class Compiling:
    """Compiles ``network`` in place when it is asked for, or pays."""

    def __init__(
        self, wanted: bool | str, network: nn.Module, device: torch.device, *, on: bool,
        operations: Callable[[], float],
    ) -> None:  # fmt: skip
        """``on``: a checkpoint says that it was compiled; ``operations`` tells this rank's FLOPs of the training."""
        self.network, self.device, self.on = network, device, False
        self._open = wanted == "auto" and device.type == "cuda"
        self._began: tuple[int, float] | None = None
        if wanted is True and not possible(device):
            raise UserError("train.compile true needs a C++ compiler (c++ on the PATH): install one, or take false")
        if wanted is True or (wanted == "auto" and (on or (device.type == "cpu" and _pays_here(device, operations)))):
            self._compile()

    def step(self, steps_done: int, steps_left: int) -> None:
        """Tell that a step of this process is done; on CUDA the question is decided here, after some of them."""
        if not self._open or steps_done < _FIRST:
            return
        if steps_done in (_FIRST, _LAST):
            torch.cuda.synchronize(self.device)
        if self._began is None:
            self._began = steps_done, time.monotonic()
        elif steps_done >= _LAST:
            began, at = self._began
            self._open = False
            each = (time.monotonic() - at) / (steps_done - began)
            if pays(each * steps_left, CUDA_COST, CUDA_GAIN):
                _log.info("%d steps of %.0f ms are left: compiling pays", steps_left, 1000 * each)
                self._compile()

    def _compile(self) -> None:
        self._open, self.on = False, True
        # In place, so that names in checkpoints, DDP and FSDP go on as they are.
        self.network.compile(dynamic=False)


def _pays_here(device: torch.device, operations: Callable[[], float]) -> bool:
    return possible(device) and pays(operations() / CPU_RATE, CPU_COST, CPU_GAIN)


def possible(device: torch.device) -> bool:
    """Whether the machine can compile at all: on the CPU that takes a C++ compiler."""
    return device.type == "cuda" or any(shutil.which(name) for name in ("c++", "g++", "clang++"))
