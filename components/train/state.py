"""What a training holds between two steps, and how it begins."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.base.errors import UserError
from components.dataset import augment, tensors
from components.diffusion import schedule
from components.diffusion.objective import Objective
from components.networks import lora, registry
from components.samples.pack import Header
from components.train import start as beginning
from components.train.averages import Averages
from components.train.distributed import sharding
from components.train.distributed.ranks import Group
from components.train.guards import Guard
from components.train.optim import flat, muon
from components.train.optim.muon import Muon
from components.train.params import TrainParams

_log = logging.getLogger(__name__)


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
    objective: Objective
    """Equal for equal parameters, data and start, so no checkpoint holds it."""
    shapes: Mapping[tuple[int, ...], float]
    """The share, 0..1, of each shape (C, ...) among the samples of the pack; no checkpoint holds it either."""
    learning: list[nn.Parameter]
    """The network's weights that learn, by group of the optimiser: see :func:`in_groups`."""
    sizes: list[int]
    """How many of them each group has."""
    weights: list[nn.Parameter]
    """The same, or on the CPU their one vector (:mod:`components.train.optim.flat`)."""
    averages: Averages
    optimiser: Muon
    scaler: torch.amp.GradScaler
    guard: Guard
    best: Best = field(default_factory=Best)
    images_seen: int = 0
    place: int = 0
    """In the order of training: images seen and those left out."""
    checked: int = 0
    """Images seen at the last check of the x0 error."""
    micro: int = 0
    """Images that a rank computes at once, on CUDA what its memory was found to take; 0: not known yet."""
    ranks: int = 1
    """That train it now."""
    compiled: bool = False
    """Whether compiling was found to pay."""
    history: list[dict[str, float | None]] = field(default_factory=list)
    """The lines of history.jsonl; None is what was not finite."""
    sums: Tensor = field(default_factory=lambda: torch.zeros(2 * schedule.BANDS + 3, dtype=torch.float64))
    """Since the last line: loss by band of noise levels, images by band, then loss, gradient norm, steps."""

    @property
    def average(self) -> nn.Module:
        """The averaged network that is handed out."""
        return self.averages.first

    @property
    def largest(self) -> tuple[int, ...]:
        """The shape of which a sample takes most memory."""
        return max(self.shapes, key=math.prod)

    @property
    def sharded(self) -> bool:
        """Whether the weights are cut over the ranks."""
        return sharding.is_sharded(self.network)

    @property
    def in_one(self) -> bool:
        """Whether the weights lie in one vector."""
        return self.weights[0] is not self.learning[0]

    def pack(self) -> dict[str, Any]:
        """As plain data and tensors, alike for every device; sharded, with the parts of this rank."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        if self.in_one:
            parts["optimiser"] = flat.spread(parts["optimiser"], self.learning, self.sizes)
        return parts | {name: copy.copy(getattr(self, name)) for name in _VALUES}

    def unpack(self, saved: dict[str, Any]) -> None:
        """Become what :meth:`pack` gave, or what :meth:`alike` had read of it."""
        parts = {name: saved[name] for name in _PARTS}
        if self.sharded:
            parts = sharding.cut(parts, self.alike(parts))
        elif self.in_one:
            parts["optimiser"] = flat.gathered(parts["optimiser"], self.learning, self.weights[0], self.sizes)
        else:
            parts["optimiser"] = flat.restrided(parts["optimiser"], self.learning)
        parts["optimiser"] = self.optimiser.with_own_ways(parts["optimiser"])
        self._load(parts, saved)

    def restride(self) -> None:
        """Lay the weights, and all that goes with them, as a compiled network on a GPU wants them: channels last."""
        if self.in_one or self.sharded:
            return
        for network in (self.network, self.average):
            network.to(memory_format=torch.channels_last)
        for weight in self.learning:
            moments = self.optimiser.state.get(weight, {})
            moments.update({name: flat.in_strides(value, weight) for name, value in moments.items()})

    def restart(self, fresh: State) -> None:
        """Become ``fresh``, of the same device and number of ranks, which nobody else holds."""
        self._load({name: getattr(fresh, name).state_dict() for name in _PARTS}, vars(fresh))

    def _load(self, parts: dict[str, Any], values: dict[str, Any]) -> None:
        for name in _PARTS:
            getattr(self, name).load_state_dict(parts[name])
        for name in _VALUES:
            setattr(self, name, copy.copy(values[name]))
        self.sums = self.sums.cpu().clone()

    def alike(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The sharded tensors as which those of ``saved``, as :meth:`pack` gives it, are cut: none without sharding."""
        if not self.sharded:
            return {}
        moments = {
            number: {name: self.weights[number] for name, value in parts.items() if value.dim()}
            for number, parts in saved["optimiser"]["state"].items()
        }
        return {
            "network": self.network.state_dict(), "averages": self.averages.state_dict(),
            "optimiser": {"state": moments}, "best": {"weights": self.average.state_dict()},
        }  # fmt: skip


_PARTS = ("network", "averages", "optimiser", "scaler", "guard", "best")
_VALUES = ("images_seen", "place", "checked", "micro", "ranks", "compiled", "history", "sums")


def start(params: TrainParams, pixels: tensors.Pixels, group: Group, page: Path | None = None) -> State:
    """The state before the first step, equal on every rank; ``page`` is data/start.json."""
    if params.batch % group.size:
        raise UserError(f"train.batch {params.batch} is not a multiple of the {group.size} ranks at work")
    cuda, shard = group.device.type == "cuda", params.sharding == "full" and group.size > 1
    if params.sharding == "full" and not shard:
        _log.info("train.sharding full: one rank has nobody to share weights with, so they are not sharded")
    in_one = not shard and in_one_vector(group.device)
    make = functools.partial(build, params, pixels, page)
    if shard:
        network = sharding.begun(make, group, precision=params.precision)
        average = sharding.averaged(network, make, group)
    else:
        network = make().to(group.device)
        if not in_one:
            network.to(memory_format=registry.memory_format(network))
        average = copy.deepcopy(network)
    grouped = in_groups(network, params)
    named = {name: weight for group in grouped for name, weight in group.items()}
    learning = [*named.values()]
    weights = [flat.flatten(learning)] if in_one else learning
    optimiser = _optimiser(params, grouped, weights[0] if in_one else None, group, fused=not shard or cuda)
    scaler = torch.amp.GradScaler(group.device.type, init_scale=2.0**12, enabled=params.precision == "fp16")
    averages = Averages(average, params.ema_half_lives, names=list(named), in_one=in_one)
    objective = beginning.objective(page, params.objective_at(pixels.header.spec.sigma_data))
    guard = Guard(params.guard, params.batch)
    sizes = [len(group) for group in grouped if group]
    shapes = _shares(pixels.header)
    return State(
        network, objective, shapes, learning, sizes, weights, averages, optimiser, scaler, guard, ranks=group.size
    )


def _shares(header: Header) -> dict[tuple[int, ...], float]:
    """The share of each shape among the samples of a pack."""
    counts = Counter(header.buckets) or {0: 1}
    return {shape: counts[at] / max(1, sum(counts.values())) for at, shape in enumerate(header.shapes)}


def in_one_vector(device: torch.device) -> bool:
    """Whether weights that are not sharded lie in one vector; elsewhere a kernel takes all of them at once."""
    return device.type == "cpu"


def build(params: TrainParams, pixels: tensors.Pixels, page: Path | None = None) -> nn.Module:
    """The network with its first weights, on the CPU; ``page`` is data/start.json.

    Inside ``torch.device("meta")`` it has none, and no file of weights is read.
    """
    header = pixels.header
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        network = registry.build(
            params.network, schedule_name=params.schedule, shape=header.spec.shape,
            classes=pixels.null_class or 0, augment_labels=augment.LABELS if params.augment.labelled else 0,
            text_width=pixels.captions.encoder.width if pixels.captions else 0,
            text_tokens=pixels.captions.encoder.tokens if pixels.captions else 0,
        )  # fmt: skip
    network = beginning.network(page, network, params.objective_at(header.spec.sigma_data), header)
    registry.check(network, header.shapes)
    if params.augment.labelled and network.augment is None:
        raise UserError(
            "train.augment.label true, but the network to start from was not trained with it: take false, or "
            "`stillroom start none`"
        )
    if params.recompute:
        registry.recompute(network)
    return lora.added(network, params.lora, params.seed)


def in_groups(network: nn.Module, params: TrainParams) -> list[dict[str, nn.Parameter]]:
    """The weights that learn, by name: AdamW's with weight decay, AdamW's without, and Muon's, which decay too.

    Norms, biases and scalars, which have one dimension, and embeddings do not decay: a norm's weight is there to set a
    size, and the row of a label that no image of a step has would only shrink.
    """
    moved = set(muon.matrices(network)) if params.muon_moves else set()
    tables = set(registry.embeddings(network))
    found: list[dict[str, nn.Parameter]] = [{}, {}, {}]
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            still = weight.dim() < 2 or name in tables
            found[2 if weight in moved else int(still)][name] = weight
    return found


def _optimiser(
    params: TrainParams, grouped: list[dict[str, nn.Parameter]], vector: nn.Parameter | None, group: Group,
    *, fused: bool,
) -> Muon:  # fmt: skip
    """AdamW and Muon for the weights of :func:`in_groups`, or for their parts of ``vector``."""
    decayed, kept, moved = ([*each.values()] for each in grouped)
    others: list[list[Tensor]] = [[*decayed], [*kept], [*moved]]
    if vector is not None:
        runs = [len(each) for each in (decayed, kept)]
        pieces, matrices = flat.parts(vector, [*decayed, *kept, *moved], runs, len(moved))
        others = [[piece] if count else [] for piece, count in zip(pieces, runs, strict=True)] + [matrices]
    return Muon(
        others[0], others[2], no_decay=others[1], muon_rate=params.muon_rate, group=group, lr=params.learning_rate,
        betas=params.betas, eps=params.epsilon, weight_decay=params.weight_decay, fused=fused, foreach=not fused,
        capturable=group.device.type == "cuda" and fused,
    )  # fmt: skip
