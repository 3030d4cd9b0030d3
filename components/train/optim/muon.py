"""Muon: an optimiser that orthogonalises the updates of matrices; AdamW updates the rest.

The momentum of a matrix, U S V', is replaced by about U V' (Jordan et al. 2024, kellerjordan.github.io/posts/muon;
Bernstein and Newhouse 2024, arXiv:2409.20325, proposition 5), so that directions which are rare in the gradients are
learned as fast as the frequent ones.  What it gives here: docs/recipe.md.  Torch's own Muon takes matrices alone, no
convolution kernels, and iterates in bf16, which is slow on CPUs without it.

Shapes: a convolution kernel (out, in, high, wide) is a matrix (out, in * high * wide).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from components.train.distributed.ranks import Group
from components.train.optim import flat

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of X <- a X + b (X X') X + c (X X')**2 X, the Newton-Schulz iteration of Jordan et al. 2024."""

STEPS = 3
"""Iterations; Jordan et al. take 5, but 3 cost half as much and learn as well here (docs/recipe.md)."""

LEAST = 16
"""Fewest rows and columns of a matrix for which Muon pays."""


def matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights for Muon: matrices and kernels of the blocks (module lists), of LEAST rows and columns or more.

    Tables of embeddings and timestep MLPs, which a DiT has in each block, are left to AdamW: of a table a step sees a
    few rows, and Muon would move them all alike (Jordan et al. 2024).
    """
    listed = [blocks for blocks in network.modules() if isinstance(blocks, nn.ModuleList)]
    found = dict.fromkeys(weight for blocks in listed for weight in blocks.parameters())
    embed = {weight for part in network.modules() if _embeds(part) for weight in part.parameters()}
    return [
        weight for weight in found
        if weight.requires_grad and weight not in embed and weight.dim() > 1 and min(flat.rows(weight)) >= LEAST
    ]  # fmt: skip


def _embeds(part: nn.Module) -> bool:
    # The second by its name: a network that has it has imported diffusers, others need not.
    return isinstance(part, nn.Embedding) or type(part).__name__ == "TimestepEmbedding"


def _plain(method: Callable[..., Any]) -> Any:
    """A method of torch without what keeps torch's compiler out of it, and imports the compiler for that (2 CPU s)."""
    return getattr(method, "__wrapped__", method)


class Muon(torch.optim.AdamW):
    """AdamW on ``others`` and ``no_decay``, Muon on ``matrices``; weight decay does not reach ``no_decay``.

    A step changes nothing where attribute ``found_inf`` is 1.
    """

    add_param_group = _plain(torch.optim.AdamW.add_param_group)
    load_state_dict = _plain(torch.optim.AdamW.load_state_dict)
    state_dict = _plain(torch.optim.AdamW.state_dict)
    zero_grad = _plain(torch.optim.AdamW.zero_grad)

    def __init__(
        self, others: Sequence[Tensor], matrices: Sequence[Tensor], *, muon_rate: float,
        no_decay: Sequence[Tensor] = (), group: Group | None = None, **adam: Any,
    ) -> None:  # fmt: skip
        """``muon_rate``: the learning rate of ``matrices``; ``adam``: arguments of AdamW.

        On the CPU the ranks of ``group`` share the work of orthogonalising; GPUs each do all of it, which is faster
        than the exchange.
        """
        groups: list[dict[str, Any]] = [
            {"params": list(others), "muon": False},
            {"params": list(no_decay), "muon": False, "weight_decay": 0.0},
            {"params": list(matrices), "muon": True, "lr": muon_rate},
        ]
        super().__init__([group for group in groups if group["params"]], **adam)
        for each in self.param_groups:
            each["peak"] = each["lr"]
        self._group = group if group and group.size > 1 and group.device.type == "cpu" else None
        self.asks = self.param_groups[0]["params"][0].device.type == "cpu"
        """Whether a step asks for ``found_inf``, for which the host of a GPU would wait."""

    def with_own_ways(self, saved: dict[str, Any]) -> dict[str, Any]:
        """``saved``, a state of another device, with the implementation that this device takes."""
        own = {name: self.defaults[name] for name in ("foreach", "fused", "capturable")}
        return {**saved, "param_groups": [{**group, **own} for group in saved["param_groups"]]}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # torch overloads the method; ``closure`` is not used here
        """Update the weights by their gradients, unless ``found_inf`` says that these are not finite."""
        self._adam()
        bad = getattr(self, "found_inf", None)
        if bad is not None and self.asks:
            if bad:
                return
            bad = None
        for group in self.param_groups:
            if group["muon"]:
                self._update(group, bad if bad is None else bad.bool())

    @torch.no_grad()
    def rehearse(self) -> None:
        """Take the memory of a step, moments included, and change nothing; the optimiser is a fused one."""
        bad = torch.ones((), device=self.param_groups[0]["params"][0].device)
        fused: Any = self
        fused.grad_scale, fused.found_inf = None, bad
        try:
            self._adam()
        finally:
            del fused.grad_scale, fused.found_inf
        for group in self.param_groups:
            if group["muon"]:
                self._update(group, bad.bool())

    def _adam(self) -> None:
        """AdamW's step."""
        every = self.param_groups
        try:
            self.param_groups = [group for group in every if not group["muon"]]
            _plain(torch.optim.AdamW.step)(self)
        finally:
            self.param_groups = every

    def _update(self, group: dict[str, Any], bad: Tensor | None) -> None:
        """Muon's step; ``bad`` (0-dim) is true where it is to change nothing, which the device alone may know."""
        weights = [weight for weight in group["params"] if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:  # AdamW wants a step of every weight
                start = {"momentum_buffer": torch.zeros_like(weight), "step": torch.tensor(0.0, device=weight.device)}
                self.state[weight].update(start)
        if bad is not None:
            self._update_unless(bad, group, weights)
            return
        for weight in weights:
            self.state[weight]["step"] += 1
        moments, gradients = [self.state[each]["momentum_buffer"] for each in weights], [each.grad for each in weights]
        torch._foreach_lerp_(moments, gradients, 1 - MOMENTUM)
        updates = self._orthogonal(torch._foreach_lerp(gradients, moments, MOMENTUM))  # Nesterov's
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        sizes = [max(1.0, rows / columns) ** 0.5 * group["lr"] for rows, columns in map(flat.rows, weights)]
        torch._foreach_mul_(updates, sizes)
        torch._foreach_sub_(weights, updates)

    def _update_unless(self, bad: Tensor, group: dict[str, Any], weights: list[Tensor]) -> None:
        """Muon's step unless ``bad``, in few kernels: for a GPU, where the learning rate may be a tensor too."""
        if not weights:
            return
        ways = [_as_matrix(weight) for weight in weights]
        pairs = [*zip(ways, weights, strict=True)]
        moments = [way(self.state[weight]["momentum_buffer"]) for way, weight in pairs]
        gradients = [way(weight.grad) for way, weight in pairs if weight.grad is not None]
        torch._foreach_add_([self.state[weight]["step"] for weight in weights], [(~bad).float()] * len(weights))
        rate = torch.where(bad, 0.0, group["lr"])
        share = torch.where(bad, 0.0, 1 - MOMENTUM)
        updates: list[Tensor] = []
        averaged: list[Tensor] = []
        order: list[int] = []
        for shape, members in _by_shape(moments).items():
            # What is not finite becomes 0, and counts nothing.
            fresh = torch.stack([gradients[at] for at in members]).masked_fill_(bad, 0.0)
            moment = torch.stack([moments[at] for at in members]).lerp_(fresh, share)
            updates.append(_directions(fresh.lerp_(moment, MOMENTUM), max(1.0, shape[0] / shape[1]) ** 0.5))
            averaged += moment.unbind()
            order += members
        torch._foreach_mul_(updates, rate)
        torch._foreach_copy_([moments[at] for at in order], averaged)
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        parts = [part for update in updates for part in update.unbind()]
        torch._foreach_sub_([ways[at](weights[at]) for at in order], parts)

    def _orthogonal(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """:func:`orthogonal` of each, computed by the ranks together."""
        if self._group is None:
            return orthogonal(matrices)
        sizes = [each.numel() for each in matrices]
        mine = shares([flat.rows(each) for each in matrices], self._group.size)[self._group.rank]
        out = torch.zeros(sum(sizes), device=matrices[0].device)
        parts = [part.view(each.shape) for part, each in zip(out.split(sizes), matrices, strict=True)]
        for at, update in zip(mine, orthogonal([matrices[at] for at in mine]), strict=True):
            parts[at].copy_(update)
        self._group.pool(out)
        return parts


def shares(shapes: Sequence[tuple[int, int]], size: int) -> list[list[int]]:
    """The indices of the matrices that each of ``size`` ranks computes: the costliest first, to the least busy rank."""
    cost = [min(shape) ** 2 * (max(shape) + 2 * STEPS * min(shape)) for shape in shapes]
    out: list[list[int]] = [[] for _ in range(size)]
    for at in sorted(range(len(shapes)), key=lambda at: (-cost[at], at)):
        min(out, key=lambda own: sum(cost[each] for each in own)).append(at)
    return out


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """About U V' of each of ``matrices`` = U S V', in their shapes; those of one shape are computed as one batch."""
    out: dict[int, Tensor] = {}
    for shape, members in _by_shape(matrices).items():
        stacked = torch.stack([matrices[at].reshape(shape) for at in members])
        wide = shape[0] <= shape[1]
        found = _iterated(stacked if wide else stacked.mT)
        for at, update in zip(members, found if wide else found.mT, strict=True):
            out[at] = update.reshape(matrices[at].shape)
    return [out[at] for at in range(len(matrices))]


def _by_shape(matrices: Sequence[Tensor]) -> dict[tuple[int, int], list[int]]:
    """The indices of ``matrices`` by their shapes as matrices."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for at, each in enumerate(matrices):
        shapes.setdefault(flat.rows(each), []).append(at)
    return shapes


def _as_matrix(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """What makes a matrix (out, the rest) of ``weight`` and of what lies like it, without a copy.

    In channels-last memory its columns are in another order, which is all that changes in what Muon makes of it.
    """
    turned = weight.dim() == 4 and not weight.is_contiguous()
    return lambda value: (value.permute(0, 2, 3, 1) if turned else value).flatten(1)


def _unit(x: Tensor) -> Tensor:
    """Each matrix of ``x`` (K, m, n) divided by its norm."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]


def _directions(x: Tensor, times: float) -> Tensor:
    """``times`` about U V' of each of ``x`` (K, m, n), contiguous: :func:`_iterated` in fewer kernels."""
    x = _unit(x)
    wide = x.shape[1] <= x.shape[2]
    gram = x @ x.mT if wide else x.mT @ x
    turn = factor = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = turn @ gram @ turn
        turn = _polynomial(gram)
        factor = turn @ factor
    # A factor is a polynomial of the Gram matrix, so it is symmetric and stands on either side.
    pair = (factor, x) if wide else (x, factor)
    return torch.baddbmm(x, *pair, beta=0, alpha=times)


def _polynomial(gram: Tensor) -> Tensor:
    """a 1 + b G + c G**2 of each G, (K, m, m)."""
    a, b, c = COEFFICIENTS
    found = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal(dim1=1, dim2=2).add_(a)
    return found


def _iterated(x: Tensor) -> Tensor:
    """The iteration on a batch (K, m, n), m <= n, in m x m matrices: its factors are polynomials of X X'."""
    gram = x @ x.mT
    # X is not divided by its norm, whose square is the trace: the small matrices are, which saves two passes over X.
    size = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-24).rsqrt()[:, None, None]
    gram *= size.square()
    turn = factor = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = turn @ gram @ turn
        turn = _polynomial(gram)
        factor = turn @ factor
    return (factor * size) @ x
