"""The x0 error: one number that compares recipes, and its parts by noise level.

Each image gets the same noise every time (a function of the seed, its key and the level) at each of
:data:`components.diffusion.schedule.SIGMAS`; the error is the mean over an image's values of (D - image)**2, pixels in
[-1, 1], so it compares any two objectives.  "geo" is the geometric mean over the levels of the mean over the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from components.dataset import tensors
from components.diffusion.objective import Objective
from components.diffusion.schedule import LEVELS, SIGMAS


def labels_for(class_ids: Tensor, null_class: int | None) -> Tensor | None:
    """Labels for the network: -1 becomes the null class; None when it takes none."""
    return None if null_class is None else torch.where(class_ids < 0, null_class, class_ids)


@torch.no_grad()
def measure(
    network: nn.Module, objective: Objective, images_BHWC: Tensor, labels: Tensor | None, keys: Sequence[str], *,
    seed: int, precision: str = "fp32", batch: int = 64,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the errors of ``batch`` (image, level) pairs at a time; joined they are B x 8, row-major."""
    device = next(network.parameters()).device
    sigmas = torch.tensor(SIGMAS)
    pairs = [(at, level) for at in range(len(images_BHWC)) for level in range(LEVELS)]
    for first in range(0, len(pairs), batch):
        which, levels = (torch.tensor(part) for part in zip(*pairs[first : first + batch], strict=True))
        image = tensors.to_network(images_BHWC[which], device)
        shape = image.shape[1:]
        noise = torch.stack([
            torch.randn(shape, generator=tensors.generator(seed, "x0_error", keys[at], level))
            for at, level in pairs[first : first + batch]
        ]).to(device)  # fmt: skip
        sigma = sigmas[levels].to(device)
        label = None if labels is None else labels[which].to(device)
        noisy = image + sigma.view(-1, 1, 1, 1) * noise
        with autocast(device, precision):
            predicted = objective.denoise(network, noisy, sigma, label)
        yield (predicted - image).square().mean((1, 2, 3)).cpu()


def geo(errors_BL: Tensor) -> float:
    """Geometric mean over levels of the mean over images."""
    return float(errors_BL.double().mean(0).log().mean().exp())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the network computes in ``precision``: bf16, fp16, fp32, or auto."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    chosen = resolve(device, precision)
    return torch.autocast(device.type, dtype=kinds[chosen], enabled=chosen != "fp32")


def resolve(device: torch.device, precision: str) -> str:
    """``auto`` as bf16 or fp32: without the instructions bf16 is 13 times slower than fp32 (measured)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
