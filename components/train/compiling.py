"""Whether ``torch.compile`` saves more time in the rest of a training than it takes.

On the CPU the answer depends on the parameters and the network alone, since a compiled step rounds differently and
the same inputs have to give the same bytes.  On CUDA it depends on the measured time of a step, and is kept in the
checkpoint.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from components.base.errors import UserError

CPU_COST, CPU_GAIN = 106.0, 0.115
"""Seconds that compiling takes on one core, and the share of a step that it saves (measured: pays after 920 s)."""

CUDA = {"DiTTransformer2DModel": (34.0, 1 - 1 / 1.6)}
CUDA_OTHERS = (89.0, 1 - 1 / 1.5)
"""The same on a GPU by the network's class, and of U-Nets (one H200, 64 px, batch 256: 1.5 to 2.2 times as fast)."""

CPU_RATE = 25e9
"""FLOP/s of one core in float32 with AVX2; only the order of magnitude matters."""

_FIRST, _LAST = 5, 25
"""Steps between which a CUDA step is timed: during the first, memory is allocated and algorithms are chosen."""

_log = logging.getLogger(__name__)


def keep_in(folder: Path) -> None:
    """Keep what compilers make in ``folder``, for the next training and for ranks that this process starts.

    By their own settings, unless those are made already; else they write outside the checkout.
    """
    for name, part in (("TORCHINDUCTOR_CACHE_DIR", "torch"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(name, str(folder.absolute() / part))


def pays(seconds: float, cost: float, gain: float) -> bool:
    """Whether compiling for ``cost`` seconds pays when it saves the share ``gain`` of the next ``seconds``."""
    return seconds * gain > cost


class Compiling:
    """Compiles a network in place, at once or after some steps, where that is asked for or pays."""

    def __init__(
        self, wanted: bool | str, network: nn.Module, device: torch.device, *, on: bool,
        operations: Callable[[], float], before: Callable[[], object] = lambda: None, shapes: int = 1,
    ) -> None:  # fmt: skip
        """Compile now where ``wanted`` is true, or is auto and it pays on the CPU; UserError when there is no compiler.

        ``on``: the checkpoint was of a compiled network; ``operations`` gives the FLOPs of this rank in the training;
        ``before`` is called when the network is about to be compiled; ``shapes``: so many shapes samples have, for each
        of which it is compiled.
        """
        self.network, self.device, self.on, self.shapes = network, device, False, shapes
        self._before = before
        self._open = wanted == "auto" and device.type == "cuda"
        self._began: tuple[int, float] | None = None
        if wanted is True and not possible(device):
            raise UserError("train.compile true needs a C++ compiler (c++ on the PATH): install one, or take false")
        if wanted is True or (
            wanted == "auto" and (on or (device.type == "cpu" and _pays_here(device, operations, shapes)))
        ):
            self._compile()

    def step(self, steps_done: int, steps_left: int) -> None:
        """Count a step; on CUDA, decide after :data:`_LAST` of them. ``steps_done``: by this process."""
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
            cost, gain = CUDA.get(type(self.network).__name__, CUDA_OTHERS)
            if pays(each * steps_left, cost * self.shapes, gain):
                _log.info("%d steps of %.0f ms are left: compiling pays", steps_left, 1000 * each)
                self._compile()

    def _compile(self) -> None:
        self._open, self.on = False, True
        self._before()
        if self.shapes > 1:  # torch gives up after eight shapes; a last, smaller piece of a batch is one more of each
            import torch._dynamo

            limit = max(torch._dynamo.config.recompile_limit, 8 + 2 * self.shapes)
            torch._dynamo.config.recompile_limit = limit
        # In place, so that the names of weights stay the same for checkpoints, DDP and FSDP.
        self.network.compile(dynamic=False)


def _pays_here(device: torch.device, operations: Callable[[], float], shapes: int) -> bool:
    return possible(device) and pays(operations() / CPU_RATE, CPU_COST * shapes, CPU_GAIN)


def possible(device: torch.device) -> bool:
    """Whether the machine can compile at all: for the CPU it needs a C++ compiler."""
    return device.type == "cuda" or any(shutil.which(name) for name in ("c++", "g++", "clang++"))
