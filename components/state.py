"""What a training holds between two steps, and how it begins."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from components import data, networks, schedule
from components.errors import UserError
from components.ranks import Group
from components.recipe import TrainParams


@dataclass
class State:
    """Everything that a checkpoint holds."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    images_seen: int = 0
    bad_steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(2 * schedule.LEVELS + 3, dtype=torch.float64))
    """Since the last line: loss by level, images by level, then loss, gradient norm, steps."""

    def pack(self) -> dict[str, Any]:
        """As plain data and tensors."""
        parts = {name: getattr(self, name).state_dict() for name in _MODULES}
        return parts | {name: getattr(self, name) for name in _VALUES}

    def unpack(self, saved: dict[str, Any]) -> None:
        """Become what :meth:`pack` gave."""
        for name in _MODULES:
            getattr(self, name).load_state_dict(saved[name])
        for name in _VALUES:
            setattr(self, name, saved[name])
        self.sums = self.sums.cpu()


_MODULES = ("network", "average", "optimiser", "scaler")
_VALUES = ("images_seen", "bad_steps", "history", "sums")


def start(params: TrainParams, pixels: data.Pixels, group: Group) -> State:
    """The state before the first step, equal on every rank."""
    header = pixels.header
    if params.precision == "fp16" and group.device.type != "cuda":
        raise UserError("train.precision fp16 needs a CUDA device: take bf16 or fp32")
    if params.batch % group.size:
        raise UserError(f"train.batch {params.batch} is not a multiple of the {group.size} ranks at work")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        network = networks.build(
            params.network, schedule_name=params.schedule, side=header.side, channels=header.channels,
            classes=len(header.classes),
        )  # fmt: skip
    network = network.to(group.device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    cuda = group.device.type == "cuda"
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, betas=(0.9, 0.99), weight_decay=params.weight_decay,
        fused=cuda, foreach=not cuda,  # on the CPU torch 2.14.1 misapplies fused updates of some strides
    )  # fmt: skip
    scaler = torch.amp.GradScaler(group.device.type, init_scale=2.0**12, enabled=params.precision == "fp16")
    return State(network, average, optimiser, scaler)
