"""benchmarks/gpu.py runs in small on the CPU, so that a lent GPU's ten minutes are not spent on its mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import python_path

ROOT = Path(__file__).resolve().parent.parent


def bench(*arguments):
    own = {"PYTHONPATH": python_path(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=600)


@pytest.mark.slow(70)
def test_it_prints_a_row_for_each_measurement(tmp_path):
    done = bench("--smoke", "--sheet", str(tmp_path / "sheet.png"))
    assert done.returncode == 0, done.stderr[-3000:]
    wanted_rows = (
        "default, 16 px", "waits", "bits: equal", "stage train", "script, 16 px, fp32", "ours, 16 px, bf16", "feed:",
        "DDPMPipeline", "times |", "smoke on",
    )  # fmt: skip
    for wanted in wanted_rows:
        assert wanted in done.stdout, wanted
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.slow
def test_without_a_gpu_it_says_what_to_do():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench()
    assert done.returncode == 2
    assert "--smoke" in done.stderr
