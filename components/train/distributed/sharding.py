"""Networks that do not fit one device: weights, gradients, optimiser and averages sharded over the ranks (FSDP2).

Checkpoints hold whole tensors, so that a training can go on with another number of ranks or without sharding.

FSDP takes longer to import than half of torch: only :func:`shard` imports it, and without it nothing is sharded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from components.networks import registry

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

from components.train.distributed.ranks import Group


def shard(network: nn.Module, group: Group, *, learns: bool = True) -> None:
    """Shard ``network`` over the ranks in place: each block of a module list by itself, the rest with the root.

    It comes on the CPU: FSDP moves a block to the device when it cuts it, so no device ever holds all of it.  A block's
    weights are gathered before it computes and freed after it; so are those of a part that the network calls by itself.
    Those of the root stay until the backward pass, or are freed as well where the network never ``learns``: nothing
    else would make it gather them anew.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    mesh = init_device_mesh(group.device.type, (group.size,))
    for block in (*registry.called_apart(network), *_blocks(network)):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=None if learns else True)


def is_sharded(network: nn.Module) -> bool:
    """Whether the weights of ``network`` are cut over the ranks."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(network, fsdp.FSDPModule)


def _is_cut(part: object) -> TypeGuard[DTensor]:
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(part, tensors.DTensor)


def _blocks(network: nn.Module, *, listed: bool = False) -> Iterator[nn.Module]:
    """The members of the outermost module lists that have weights; a list inside a list counts by its members."""
    for part in network.children():
        if isinstance(part, nn.ModuleList):
            yield from _blocks(part, listed=True)
        elif not listed:
            yield from _blocks(part)
        elif next(part.parameters(), None) is not None:
            yield part


def whole(tree: Any, *, keep: bool = True) -> Any:
    """``tree`` of dicts, lists and tensors with every sharded tensor whole, on the CPU, one gathered after the other.

    A collective call: every rank has to make it.  Those that do not ``keep`` the tensors get None in their place.
    """
    if isinstance(tree, Tensor):
        found = tree.full_tensor() if _is_cut(tree) else tree
        return (found.cpu() if _is_cut(tree) else found) if keep else None
    if isinstance(tree, dict):
        return {name: whole(part, keep=keep) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(whole(part, keep=keep) for part in tree)
    return tree


def cut(tree: Any, like: Any) -> Any:
    """``tree`` of whole tensors, equal on every rank, each sharded as its counterpart in ``like`` is.

    Nothing of ``tree``, which may be mapped from a file, is part of what is returned.
    """
    if _is_cut(like):
        from torch.distributed.tensor import DTensor, distribute_tensor

        # FSDP's parts are contiguous, those of a checkpoint may be channels-last.  No rank sends anything.
        part = distribute_tensor(tree.contiguous(), like.device_mesh, like.placements, src_data_rank=None)
        return DTensor.from_local(
            part.to_local().clone(), like.device_mesh, like.placements, shape=part.shape, stride=part.stride()
        )
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(like, dict):
        return {name: cut(part, like.get(name)) for name, part in tree.items()}
    if isinstance(like, list | tuple):
        return type(tree)(cut(part, other) for part, other in zip(tree, like, strict=True))
    return tree


def cut_moments(state: dict[str, Any], weights: Sequence[Tensor]) -> dict[str, Any]:
    """The whole state of an optimiser over ``weights``, with its moments sharded as the weights are."""
    cut_state = {
        number: {name: cut(part, weights[number] if part.shape == weights[number].shape else None)
                 for name, part in parts.items()}
        for number, parts in state["state"].items()
    }  # fmt: skip
    return {**state, "state": cut_state}


def norm(value: Tensor) -> Tensor:
    """The gradient norm over all ranks, a scalar, from what ``clip_grad_norm_`` returns."""
    return value.full_tensor() if _is_cut(value) else value


def gathered(network: nn.Module, build: Callable[[], nn.Module], *, keep: bool) -> nn.Module:
    """``network`` as a module that is not sharded: itself, or its weights in a new one that ``build`` makes.

    A collective call: every rank has to make it.  Ranks that do not ``keep`` the weights get those of ``build``.
    """
    if not is_sharded(network):
        return network
    weights = whole(network.state_dict(), keep=keep)
    out = build().eval().requires_grad_(False)
    if keep:
        out.load_state_dict(weights)
    return out
