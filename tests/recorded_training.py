"""The curves of a few tiny trainings, for recorded.py."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import torch
from train_fixtures import AUGMENT, COLOUR, COMPACT, DIT, make_pack, run, tiny

CASES: tuple[dict, ...] = (
    {},
    {"network": COMPACT, "onnx": True, "augment": AUGMENT | {
        "horizontal_flip": 0.5, "rotate": 20.0, "colour": COLOUR | {"hue": 0.1}, "label": True}},
    {"objective": "edm", "schedule": "log_normal", "weighting": "edm", "muon_rate": 0.0},
    {"network": DIT, "objective": "flow", "schedule": "logit_normal", "weighting": "velocity"},
    {"schedule": "exponential", "objective": "eps", "weighting": "min_snr"},
)  # fmt: skip


def curves() -> list[list[float]]:
    """Of each of CASES the losses, a line a step, and the logarithms of the x0 errors at each noise level."""
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                _, files = run(Path(folder), tiny(**case), make_pack(Path(folder) / "pack"))
            lines = [json.loads(line) for line in files["history.jsonl"].splitlines()]
            errors = [value for line in lines for name, value in line.items() if name.startswith("x0_error/")]
            found += [[line["loss"] for line in lines if "loss" in line], [math.log(error) for error in errors]]
    finally:
        torch.set_num_threads(threads)
    return found
