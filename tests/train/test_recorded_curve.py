"""What a training comes to is recorded: whoever changes it raises the version of its algorithm and records it anew."""

import pytest
from train_fixtures import AUGMENT, COLOUR, COMPACT, DIT, make_pack, run, tiny

from components.train.stage import ALGORITHM

CASES = {
    "unet": {},
    "compact, augmented": {"network": COMPACT, "onnx": True, "augment": AUGMENT | {
        "horizontal_flip": 0.5, "rotate": 20.0, "colour": COLOUR | {"hue": 0.1}, "label": True}},
    "edm": {"objective": "edm", "schedule": "log_normal", "weighting": "edm", "muon_rate": 0.0},
    "dit, flow": {"network": DIT, "objective": "flow", "schedule": "logit_normal", "weighting": "velocity"},
}  # fmt: skip

RECORDED = {
    1: {
        "unet": (0.599, 0.0781),
        "compact, augmented": (0.495, 0.0693),
        "edm": (0.927, 0.0667),
        "dit, flow": (1.33, 0.154),
    },
}
"""By version of ALGORITHM: last loss and x0 error, three digits, which no rounding of another CPU moves."""


@pytest.mark.parametrize("case", CASES)
def test_a_training_comes_to_what_is_recorded_for_its_version(case, tmp_path):
    told, _ = run(tmp_path, tiny(**CASES[case]), make_pack(tmp_path / "pack"))
    wanted = pytest.approx(RECORDED[ALGORITHM.version][case], rel=5e-3)
    assert (told["loss"], told["x0_error"]) == wanted, "raise ALGORITHM's version in components/train/stage.py"
