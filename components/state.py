"""What a training holds between two steps, and how it begins."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components import data, networks, schedule
from components import start as beginning
from components.errors import UserError
from components.guards import Guard
from components.ranks import Group
from components.recipe import TrainParams


@dataclass
class Best:
    """The best check of the x0 error so far, for a training with patience."""

    error: float = math.inf
    images_seen: int = 0
    worse: int = 0
    """Checks since."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Averaged, of that check."""

    def state_dict(self) -> dict[str, Any]:
        """As plain data."""
        return dict(vars(self))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Become what :meth:`state_dict` gave."""
        vars(self).update(saved)


@dataclass
class State:
    """Everything that a checkpoint holds: all that decides the next step."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    guard: Guard
    best: Best = field(default_factory=Best)
    images_seen: int = 0
    place: int = 0
    """In the order of training: images seen and those left out."""
    checked: int = 0
    """Images seen at the last check of the x0 error."""
    history: list[dict[str, float]] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(2 * schedule.LEVELS + 3, dtype=torch.float64))
    """Since the last line: loss by level, images by level, then loss, gradient norm, steps."""

    def pack(self) -> dict[str, Any]:
        """As plain data and tensors."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        return parts | {name: copy.copy(getattr(self, name)) for name in _VALUES}

    def unpack(self, saved: dict[str, Any]) -> None:
        """Become what :meth:`pack` gave."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(saved[name])
        for name in _VALUES:
            setattr(self, name, copy.copy(saved[name]))
        self.sums = self.sums.cpu()


_PARTS = ("network", "average", "optimiser", "scaler", "guard", "best")
_VALUES = ("images_seen", "place", "checked", "history", "sums")


def start(params: TrainParams, pixels: data.Pixels, group: Group, page: Path | None = None) -> State:
    """The state before the first step, equal on every rank; ``page`` is data/start.json."""
    header = pixels.header
    if params.precision == "fp16" and group.device.type != "cuda":
        raise UserError("train.precision fp16 needs a CUDA device: take bf16 or fp32")
    if params.batch % group.size:
        raise UserError(f"train.batch {params.batch} is not a multiple of the {group.size} ranks at work")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        network = networks.build(
            params.network, schedule_name=params.schedule, side=header.side, channels=header.channels,
            classes=len(header.classes), told=params.augment.told,
        )  # fmt: skip
    network = beginning.network(page, network, params.aim, header).to(group.device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    cuda = group.device.type == "cuda"
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, betas=(0.9, 0.99), weight_decay=params.weight_decay,
        fused=cuda, foreach=not cuda,  # on the CPU torch 2.14.1 misapplies fused updates of some strides
    )  # fmt: skip
    scaler = torch.amp.GradScaler(group.device.type, init_scale=2.0**12, enabled=params.precision == "fp16")
    return State(network, average, optimiser, scaler, Guard(params.guard, params.batch))
