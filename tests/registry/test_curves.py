"""The curves of a training in MLflow."""

import json

from flows.registry import pages


def test_a_check_that_was_not_finite_is_no_point_of_its_curve(tmp_path):
    path = tmp_path / "history.jsonl"
    lines = [{"step": 8, "loss": 0.5}, {"step": 8, "x0_error": 0.2}, {"step": 16, "x0_error": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert pages.of_training(path) == {"train/loss": [(8, 0.5)], "train/x0_error": [(8, 0.2)]}
