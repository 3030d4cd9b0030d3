"""What a training step does on a GPU, counted: launches of kernels, waits of the host; and the bits of the noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from components.dataset import counters

STEPS = 4
LAUNCHES = ("LaunchKernel", "GraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")


def counts(step: Callable[[], object]) -> tuple[float, float]:
    """Launches of kernels or graphs, none on a CPU, and waits of the host, of one ``step``.

    A blocking copy waits for its stream, so it is among the waits.
    """
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(STEPS):
            step()
    events = [(event.key, event.count) for event in seen.key_averages()]

    def each(names: tuple[str, ...]) -> float:
        return sum(count for key, count in events if any(name in key for name in names)) / STEPS

    return each(LAUNCHES), each(WAITS)


def noise_bits(device: torch.device) -> str:
    """The first step of the noise whose bits differ between the CPU and ``device``, by how much; or that none does."""
    cpu, other = _steps(torch.device("cpu")), _steps(device)
    for name, ours in cpu.items():
        theirs = other[name].cpu()
        if not torch.equal(ours, theirs):
            apart = (ours.double() - theirs.double()).abs()
            share = float((apart > 0).double().mean())
            return f"{name} differs in {share:.2%} of the numbers, by {float(apart.max()):.2g}"
    return "equal"


def _steps(device: torch.device) -> dict[str, Tensor]:
    """What :func:`counters.normal` computes one after the other, on ``device``."""
    places = torch.arange(64, device=device)
    words = counters.words(0, counters.NOISE, places)
    bits = counters._split(words[0][:, None] + torch.arange(4096, device=device) * counters._GAMMA, words[1][:, None])
    upper, lower = (bits >> 40).int() + (1 << 23) + 1, bits.int()
    logarithm = counters._logarithm(upper.float(), 24)
    angle = ((lower << 2) >> 8).float() * (math.pi / 4 * 2.0**-23)
    square = angle * angle
    return {
        "words": torch.stack(words), "bits": bits, "floats": upper.float(), "logarithm": logarithm,
        "square root": counters._root(-2 * logarithm), "angle": angle, "square": square,
        "sine": angle * counters._horner(square, counters._SINE),
        "cosine": counters._horner(square, counters._COSINE),
        "normals": counters.normal(0, places, (3, 32, 32), device),
    }  # fmt: skip
