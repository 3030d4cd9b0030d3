"""Let a test run pretend what the CPU offers: STILLROOM_TEST_PRECISION is what ``precision: auto`` becomes.

Only the tests read it, here and in every Python that they start: bf16 is then computed where the CPU has no
instructions for it (the same numbers, some forty times slower), and fp32 where it has.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec

NAME = "STILLROOM_TEST_PRECISION"


def install() -> None:
    """From here on torch, once something imports it, says that this CPU has bf16 or that it has not."""
    wanted = os.environ.get(NAME)
    if wanted is None:
        return
    if wanted not in ("bf16", "fp32"):
        raise ValueError(f"{NAME} must be bf16 or fp32, not {wanted!r}")
    if "torch" in sys.modules:
        _pretend(sys.modules["torch"], wanted == "bf16")
    else:
        sys.meta_path.insert(0, _AfterTorch(wanted == "bf16"))


def _pretend(torch: object, bf16: bool) -> None:
    torch.ops.mkldnn._is_mkldnn_bf16_supported = lambda: bf16


class _AfterTorch:
    """A finder that steps aside at the import of torch, which it does not cause: many stages start without it."""

    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        run = spec.loader.exec_module

        def run_then_pretend(module: object) -> None:
            run(module)
            _pretend(module, self.bf16)

        spec.loader.exec_module = run_then_pretend
        return spec
