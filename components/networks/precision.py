"""In which arithmetic a network computes: bf16, fp16 or fp32, and what `auto` is on the device at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


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


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """The context in which the network computes in fp32 whatever holds around it, on CUDA without TF32 either."""
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    with autocast(device, "fp32"), cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):  # fmt: skip
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
