"""A test run can pretend what the CPU offers, in itself and in every Python that it starts."""

import subprocess
import sys

import hardware
import pytest
import torch

from components.networks import precision

CODE = "import sys; early = 'torch' in sys.modules; import torch; from components.networks.precision import resolve"


def other():
    """The precision that this CPU would not be asked for."""
    return "fp32" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "bf16"


@pytest.mark.slow(4)
def test_auto_is_what_the_environment_says_and_torch_is_not_imported_for_it(monkeypatch):
    wanted = other()
    monkeypatch.setenv(hardware.NAME, wanted)
    code = f"{CODE}; print(early, resolve(torch.device('cpu'), 'auto'), resolve(torch.device('cpu'), 'fp16'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", wanted, "fp16"]


@pytest.mark.parametrize("wanted", ["bf16", "fp32"])
def test_where_torch_is_there_already_auto_is_it_too(monkeypatch, wanted):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: wanted == "fp32")
    monkeypatch.setenv(hardware.NAME, wanted)
    hardware.install()
    assert precision.resolve(torch.device("cpu"), "auto") == wanted


def test_another_word_is_an_error(monkeypatch):
    monkeypatch.setenv(hardware.NAME, "fp8")
    with pytest.raises(ValueError, match="must be bf16 or fp32, not 'fp8'"):
        hardware.install()
