"""A student's scores beside its teacher's, from the same seed and on the same held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from components.dataset import tensors
from components.embed import features
from components.evaluate import measure, scores, shapes
from components.model import sampling
from components.samples import pack

REPLICATES, CONFIDENCE = 200, 0.95
"""Bootstrap samples behind each interval, and the share of them inside it."""


def compared(teacher: Path, student: Path, *, pixels: Path, splits: Path, samples: int, seed: int) -> dict[str, Any]:
    """KID and x0 error of both, and ``kid_lost``, the student's KID less the teacher's, with intervals; as plain data.

    ``hurried`` is the teacher in as few steps as the student, which the student has to beat.  ``samples``: pictures
    behind each KID.  The x0 error of a student is larger by what its answers, single pictures, differ from the mean.
    """
    images, rows = tensors.Pixels(pixels), {name: list(pack.read_split(splits, name)) for name in pack.SPLITS}
    both = shapes.compared(images, rows["train"], sorted(rows["val"] + rows["test"]), splits)
    asked = shapes.asked(images, both.train, samples, images.numbered(sampling.load(teacher).classes))
    given: dict[str, Any] = {"seed": seed, "shapes": asked.shapes}
    found: dict[str, Any] = {}
    described: dict[str, torch.Tensor] = {}
    few = sampling.load(student).steps
    for name, folder in (("teacher", teacher), ("student", student)):
        model = sampling.load(folder)
        with measure.workers(folder) as run:
            made = measure.samples(run, asked.class_ids, **given)
            described[name] = measure.described(run, made, f"features of {name}")
            if name == "teacher":
                hurried = measure.samples(run, asked.class_ids, steps=few, **given)
                described["hurried"] = measure.described(run, hurried, f"features in {few} steps")
                found["hurried"] = {"steps": few, "guidance": model.guidance, "autoguidance": model.autoguidance}
            errors = measure.errors(run, pixels, rows["test"], seed=seed)
            real = measure.described(run, images.runs(both.held_out), "held-out features")
        found[name] = {
            "steps": model.steps, "guidance": model.guidance, "autoguidance": model.autoguidance,
            "x0_error": scores.mean_intervals(errors, times=REPLICATES, confidence=CONFIDENCE, seed=seed)[-1],
        }  # fmt: skip
    found |= {"samples": samples, "seed": seed, "confidence": CONFIDENCE}
    source = torch.Generator().manual_seed(seed)
    weights = [scores.replicates(count, REPLICATES, source) for count in (samples, len(real))]
    ones = [torch.ones(1, count, dtype=torch.float64) for count in (samples, len(real))]
    value: dict[str, float] = {}
    spread: dict[str, torch.Tensor] = {}
    for name in described:
        distance = scores.kid(described[name], real)
        value[name], spread[name] = float(distance(*ones)), distance(*weights)
        found[name][f"kid_{features.NAME}"] = _interval(spread[name], value[name])
    # Both have the same replicates, since samples of one seed and number start from the same noise.
    found["kid_lost"] = _interval(spread["student"] - spread["teacher"], value["student"] - value["teacher"])
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The comparison as the lines of a table."""
    kid = f"kid_{features.NAME}"
    table = [f"{'':8} {'steps':>5} {'KID':>26} {'x0 error':>26}"]
    for name in ("teacher", "hurried", "student"):
        if name in found:
            parts = [found[name][score] for score in (kid, "x0_error") if score in found[name]]
            cells = [f"{part['value']:.3g} ({part['low']:.3g} to {part['high']:.3g})" for part in parts]
            who = "teacher" if name == "hurried" else name
            table.append(f"{who:8} {found[name]['steps']:>5}" + "".join(f" {cell:>26}" for cell in cells))
    lost = found["kid_lost"]
    return [*table, f"KID lost {lost['value']:+.3g} ({lost['low']:+.3g} to {lost['high']:+.3g}), of {found['samples']} "
                   "pictures from the same noise"]  # fmt: skip


def _interval(spread: torch.Tensor, value: float) -> dict[str, float]:
    low, high = scores.interval(spread, CONFIDENCE, around=value)
    return {"value": value, "low": low, "high": high}
