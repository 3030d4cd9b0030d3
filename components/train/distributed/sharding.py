"""Networks that do not fit one device: weights, gradients, optimiser and averages cut over the ranks (FSDP2).

What is saved is whole, so that a checkpoint goes on with another number of ranks and without sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from components.train.distributed.ranks import Group


def shard(network: nn.Module, group: Group) -> None:
    """Cut ``network`` over the ranks in place: each block of a list by itself, the rest with the root.

    A block's weights are gathered when it computes and let go of after it.
    """
    network.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    mesh = init_device_mesh(group.device.type, (group.size,))
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _blocks(network: nn.Module, *, listed: bool = False) -> Iterator[nn.Module]:
    """The members of the outermost lists (of lists), as far as they have weights."""
    for part in network.children():
        if isinstance(part, nn.ModuleList):
            yield from _blocks(part, listed=True)
        elif not listed:
            yield from _blocks(part)
        elif next(part.parameters(), None) is not None:
            yield part


def whole(tree: Any) -> Any:
    """``tree`` of dicts, lists and tensors with every tensor gathered; every rank has to call it."""
    if isinstance(tree, DTensor):
        return tree.full_tensor()
    if isinstance(tree, dict):
        return {name: whole(part) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(whole(part) for part in tree)
    return tree


def cut(tree: Any, like: Any) -> Any:
    """``tree`` with every tensor cut as its counterpart in ``like`` is."""
    if isinstance(like, DTensor):
        return distribute_tensor(tree, like.device_mesh, like.placements)
    if isinstance(like, dict):
        return {name: cut(part, like.get(name)) for name, part in tree.items()}
    if isinstance(like, list | tuple):
        return type(tree)(cut(part, other) for part, other in zip(tree, like, strict=True))
    return tree


def cut_moments(state: dict[str, Any], weights: list[Tensor]) -> dict[str, Any]:
    """The state of an optimiser over ``weights``, whole, with its moments cut as the weights are."""
    cut_state = {
        number: {name: cut(part, weights[number]) if part.shape == weights[number].shape else part
                 for name, part in parts.items()}
        for number, parts in state["state"].items()
    }  # fmt: skip
    return {**state, "state": cut_state}


def norm(value: Tensor) -> Tensor:
    """A gradient's norm over all ranks, from what ``clip_grad_norm_`` gives."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(network: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """``network`` as one whole module: itself, or its weights in a new one; every rank has to call it."""
    if not isinstance(network, FSDPModule):
        return network
    weights = {name: part.cpu() for name, part in whole(network.state_dict()).items()}
    out = build().eval().requires_grad_(False)
    out.load_state_dict(weights)
    return out
