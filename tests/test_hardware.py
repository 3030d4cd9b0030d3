"""A test run can pretend what the CPU offers, in itself and in every Python that it starts."""

import subprocess
import sys

import hardware
import pytest

CODE = "import sys; early = 'torch' in sys.modules; import torch; from components.networks.precision import resolve"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_auto_is_what_the_environment_says_and_torch_is_not_imported_for_it(monkeypatch, precision):
    monkeypatch.setenv(hardware.NAME, precision)
    code = f"{CODE}; print(early, resolve(torch.device('cpu'), 'auto'), resolve(torch.device('cpu'), 'fp16'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", precision, "fp16"]


def test_another_word_is_an_error(monkeypatch):
    monkeypatch.setenv(hardware.NAME, "fp8")
    with pytest.raises(ValueError, match="must be bf16 or fp32, not 'fp8'"):
        hardware.install()
