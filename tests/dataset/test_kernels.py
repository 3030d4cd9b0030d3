"""The noise that a GPU makes has the bits of the CPU's: Triton's own interpreter computes the kernel here."""

import os
import subprocess
import sys

import pytest
import torch

from components.dataset import counters

pytest.importorskip("triton")

COMPARE = """
import torch
from components.dataset import counters, kernels

for seed in (0, 123456, 2**31 - 1):
    for shape in ((3, 32, 32), (1, 7, 7), (3, 5, 5)):
        places = torch.tensor([0, 1, 40_000, 2**33 + 5])
        ours = kernels.normal(seed, counters.NOISE, places, shape)
        assert torch.equal(ours, counters.normal(seed, places, shape)), (seed, shape)
print("equal")
"""


@pytest.mark.slow(8)
def test_the_kernel_s_numbers_are_those_of_the_cpu_bit_for_bit():
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("equal\n", 0), done.stderr[-2000:]


def test_square_roots_are_rounded_as_ieee_754_says():
    value = torch.arange(1, 1 << 20, 7).float() / 1024
    assert torch.equal(counters._root(value), value.double().sqrt().float())


def test_without_a_compiler_noise_comes_from_torch_s_own_kernels(monkeypatch, caplog):
    monkeypatch.setattr(counters.importlib, "import_module", lambda name: (_ for _ in ()).throw(RuntimeError("no gcc")))
    counters._kernels.cache_clear()
    assert counters._kernels(torch.device("cuda")) is None
    assert "without Triton (no gcc): slower, and the same numbers" in caplog.text
    counters._kernels.cache_clear()
