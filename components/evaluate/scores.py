"""Distances between two sets of features, and intervals by bootstrap, as pure functions of tensors.

Shapes: N or M images, D features, R replicates, L noise levels.  A replicate is a bootstrap sample, as a row of
counts: how often each image was drawn with replacement.  Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def replicates(count: int, times: int, source: torch.Generator) -> Tensor:
    """``times`` bootstrap samples of ``count`` images: how often each image is in it, float64 (R, N)."""
    drawn = torch.randint(count, (times, count), generator=source)
    counts = torch.zeros(times, count, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def interval(values_R: Tensor, confidence: float, around: float | None = None) -> tuple[float, float]:
    """The percentile interval, (low, high), that holds the share ``confidence`` (0..1) of the replicates.

    With ``around`` it is shifted so that the mean of the replicates lies there: for distances between sets, which a
    bootstrap sample overstates because it has repeats.
    """
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values_R.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    shift = 0.0 if around is None else around - float(values_R.double().mean())
    return low + shift, high + shift


def kernel(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """The polynomial kernel of KID, (a . b / D + 1)**3, (N, M): Binkowski et al. 2018, arXiv:1801.01401, section 4."""
    return (a_ND.double() @ b_MD.double().T / a_ND.shape[1] + 1) ** 3


def kid(a_ND: Tensor, b_MD: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The kernel inception distance as a function of counts (R, N) and (R, M) that gives (R,) values.

    It is the unbiased estimate of the squared MMD (Binkowski et al. 2018, arXiv:1801.01401, section 4); pairs of an
    image with itself, also of one drawn twice, are left out, so that replicates are unbiased as well.
    """
    aa, bb, ab = kernel(a_ND, a_ND), kernel(b_MD, b_MD), kernel(a_ND, b_MD)
    aa.fill_diagonal_(0)
    bb.fill_diagonal_(0)

    def distance(w: Tensor, u: Tensor) -> Tensor:
        within_a = ((w @ aa) * w).sum(1) / (w.sum(1) ** 2 - (w * w).sum(1))
        within_b = ((u @ bb) * u).sum(1) / (u.sum(1) ** 2 - (u * u).sum(1))
        across = ((w @ ab) * u).sum(1) / (w.sum(1) * u.sum(1))
        return within_a + within_b - 2 * across

    return distance


def frechet(a_ND: Tensor, b_MD: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The Frechet distance of the Gaussians with the sets' moments, as a function of counts (see :func:`kid`).

    With centred rows A and B, trace((S_a S_b)**0.5) is the sum of the singular values of A B^T over
    sqrt((n - 1)(m - 1)), so no D x D root is needed.
    """
    a, b = a_ND.double(), b_MD.double()

    def one(w: Tensor, u: Tensor) -> Tensor:
        mean_a, mean_b = w @ a / w.sum(), u @ b / u.sum()
        rows_a = (a - mean_a) * (w / (w.sum() - 1)).sqrt()[:, None]
        rows_b = (b - mean_b) * (u / (u.sum() - 1)).sqrt()[:, None]
        cross = _short(rows_a) @ _short(rows_b).T
        gram = cross @ cross.T if len(cross) <= len(cross.T) else cross.T @ cross
        root = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt().sum()
        return (mean_a - mean_b).square().sum() + rows_a.square().sum() + rows_b.square().sum() - 2 * root

    def distance(w_RN: Tensor, u_RM: Tensor) -> Tensor:
        return torch.stack([one(w, u) for w, u in zip(w_RN, u_RM, strict=True)])

    return distance


def _short(rows_ND: Tensor) -> Tensor:
    """At most as many rows as columns, with the same second moments: the R of a QR decomposition."""
    return torch.linalg.qr(rows_ND, mode="r").R if len(rows_ND) > rows_ND.shape[1] else rows_ND


def score(
    distance: Callable[[Tensor, Tensor], Tensor], n: int, m: int, *, times: int, confidence: float, seed: int
) -> dict[str, float]:
    """``value``, ``low``, ``high`` of a distance between sets of ``n`` and ``m`` images, by ``times`` replicates."""
    source = torch.Generator().manual_seed(seed)
    value = float(distance(torch.ones(1, n, dtype=torch.float64), torch.ones(1, m, dtype=torch.float64)))
    spread = distance(replicates(n, times, source), replicates(m, times, source))
    low, high = interval(spread, confidence, around=value)
    return {"value": value, "low": low, "high": high}


def mean_interval(values_N: Tensor, *, times: int, confidence: float, seed: int) -> dict[str, float]:
    """``value``, ``low`` and ``high`` of the mean over images."""
    weights = replicates(len(values_N), times, torch.Generator().manual_seed(seed)) / len(values_N)
    low, high = interval(weights @ values_N.double(), confidence)
    return {"value": float(values_N.double().mean()), "low": low, "high": high}


def mean_intervals(errors_BL: Tensor, *, times: int, confidence: float, seed: int) -> list[dict[str, float]]:
    """``value``, ``low`` and ``high`` of the mean over images at each of L levels, then of their geometric mean."""
    weights = replicates(len(errors_BL), times, torch.Generator().manual_seed(seed)) / len(errors_BL)
    means, spread = errors_BL.double().mean(0), weights @ errors_BL.double()
    means = torch.cat([means, means.log().mean().exp()[None]])
    spread = torch.cat([spread, spread.log().mean(1, keepdim=True).exp()], 1)
    found = []
    for value, column in zip(means.tolist(), spread.T, strict=True):
        low, high = interval(column, confidence)
        found.append({"value": value, "low": low, "high": high})
    return found
