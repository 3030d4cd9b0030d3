"""The x0 error: one number that compares recipes, and its parts by noise level.

Each image gets the same noise every time (a function of the seed, its key and the level) at each of
:data:`components.diffusion.schedule.SIGMAS`; the error is the mean over an image's values of (D - image)**2, pixels in
[-1, 1], so it compares any two objectives.  "geo" is the geometric mean over the levels of the mean over the images.

Shapes: B images of any rank, (B, ...); sigma (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from components.diffusion import conditions, noise
from components.diffusion.conditions import Condition
from components.diffusion.objective import along
from components.diffusion.schedule import SIGMAS

Denoise = Callable[[Tensor, Tensor, Condition], Tensor]
"""D of (noisy images, sigma, condition)."""


@torch.no_grad()
def measure(
    denoise: Denoise, images: Callable[[Tensor], Tensor], condition: Condition, keys: Sequence[str], *,
    seed: int, batch: int = 64,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the errors of ``batch`` (image, noise level) pairs at a time; joined they are B x 8, row-major.

    ``images`` gives the images at some places of ``keys``, float32 in [-1, 1] on the device of the network.
    """
    sigmas = torch.tensor(SIGMAS)
    pairs = [(at, which) for at in range(len(keys)) for which in range(len(SIGMAS))]
    for first in range(0, len(pairs), batch):
        rows, sigma_rows = (torch.tensor(part) for part in zip(*pairs[first : first + batch], strict=True))
        image = images(rows)
        shape, device = image.shape[1:], image.device
        unit = torch.stack([
            torch.randn(shape, generator=noise.generator(seed, "x0_error", keys[at], which))
            for at, which in pairs[first : first + batch]
        ]).to(device)  # fmt: skip
        sigma = sigmas[sigma_rows].to(device)
        given = conditions.moved(conditions.rows(condition, rows), device)
        noisy = image + along(sigma, image) * unit
        yield (denoise(noisy, sigma, given) - image).square().mean(tuple(range(1, image.dim()))).cpu()


def geo(errors_BL: Tensor) -> float:
    """Geometric mean over levels of the mean over images."""
    return float(errors_BL.double().mean(0).log().mean().exp())
