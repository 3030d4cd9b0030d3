"""Networks that do not fit one device: weights, gradients, optimiser and averages sharded over the ranks (FSDP2).

No rank ever holds such a network whole but the first, on the CPU, while it begins and when the model is written.
Checkpoints are in parts: parts.py.

FSDP takes longer to import than half of torch: only :func:`shard` imports it, and without it nothing is sharded.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch import distributed as dist

from components.networks import precision as arithmetic
from components.networks import registry

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

from components.train.distributed.ranks import Group


def begun(build: Callable[[], nn.Module], group: Group, *, precision: str) -> nn.Module:
    """The network that ``build`` makes, sharded, to learn in ``precision``.  Every rank has to make this call.

    The first rank builds it on the CPU and hands out its weights, one tensor after the other.  Each rank builds it on
    torch's meta device, where weights have a shape and no memory, and has memory for its own parts alone.
    """
    source = build() if group.rank == 0 else nn.Module()
    network = _empty(build, group, precision=precision)
    known = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            _scatter(known.get(name), weight, group.device)
        for name, buffer in network.named_buffers():  # equal on all ranks
            if group.rank == 0:
                buffer.copy_(known[name])
            dist.broadcast(buffer, 0)
    return network


def averaged(network: nn.Module, build: Callable[[], nn.Module], group: Group) -> nn.Module:
    """A second network with the weights of ``network``, which :func:`begun` made by ``build``; it never learns."""
    other = _empty(build, group, precision="fp32", learns=False)
    with torch.no_grad():
        for mine, theirs in ((other.parameters(), network.parameters()), (other.buffers(), network.buffers())):
            for to, value in zip(mine, theirs, strict=True):
                _local(to).copy_(_local(value))
    return other


def _empty(build: Callable[[], nn.Module], group: Group, *, precision: str, learns: bool = True) -> nn.Module:
    """What ``build`` makes, sharded, with memory for this rank's parts, in which nothing is written yet."""
    with torch.device("meta"):
        network = build()
    shard(network, group, precision=precision, learns=learns)
    return network.to_empty(device=group.device)


def _scatter(whole: Tensor | None, like: Tensor, device: torch.device) -> None:
    """Fill the parts of ``like`` on all ranks with those of ``whole``, which the first rank has."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # What the others give says the shape and is not read.
    given = torch.empty(like.shape, dtype=like.dtype, device=device) if whole is None else whole.detach().to(device)
    part = distribute_tensor(given.contiguous(), like.device_mesh, like.placements)
    like.to_local().copy_(part.to_local())


def shard(network: nn.Module, group: Group, *, precision: str = "fp32", learns: bool = True) -> None:
    """Shard ``network`` over the ranks in place: each block of a module list by itself, the rest with the root.

    A block's weights are gathered before it computes and freed after it; so are those of a part that the network calls
    by itself.  Those of the root stay until the backward pass, or are freed as well where the network never
    ``learns``: nothing else would make it gather them anew.  In ``precision`` bf16 they are gathered in bf16, half as
    many bytes, and gradients are added up in float32; the optimiser's weights are float32 always.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    network.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    mesh = init_device_mesh(group.device.type, (group.size,))
    policy = MixedPrecisionPolicy()
    if arithmetic.resolve(group.device, precision) == "bf16":
        # Autocast decides for each operation, as it does without sharding.  The inputs stay as they are: a timestep of
        # 999 is none in bf16.
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in (*registry.called_apart(network), *_blocks(network)):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy, reshard_after_forward=None if learns else True)


def is_sharded(network: nn.Module) -> bool:
    """Whether the weights of ``network`` are cut over the ranks."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(network, fsdp.FSDPModule)


def is_cut(part: object) -> TypeGuard[DTensor]:
    """Whether ``part`` is a tensor of which each rank has its own rows."""
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


def cut(tree: Any, like: Any) -> Any:
    """``tree`` of whole tensors, equal on every rank, each sharded as its counterpart in ``like`` is.

    No whole tensor of ``tree``, which may be mapped from a file, is part of what is returned.
    """
    if is_cut(tree):
        return tree
    if is_cut(like):
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


def norm(value: Tensor) -> Tensor:
    """The gradient norm over all ranks, a scalar, from what ``clip_grad_norm_`` returns."""
    return value.full_tensor() if is_cut(value) else value


def gathered(network: nn.Module, build: Callable[[], nn.Module], *, keep: bool) -> nn.Module:
    """``network`` as a module that is not sharded: itself, or its weights in a new one that ``build`` makes.

    A collective call: every rank has to make it.  Ranks that do not ``keep`` the weights get shapes without memory.
    """
    if not is_sharded(network):
        return network
    with contextlib.nullcontext() if keep else torch.device("meta"):
        out = build().eval().requires_grad_(False)
    own = out.state_dict()
    for name, weight in network.state_dict().items():  # one after the other
        value = weight.full_tensor() if is_cut(weight) else weight
        if keep:
            own[name].copy_(value)
    return out


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if is_cut(weight) else weight
