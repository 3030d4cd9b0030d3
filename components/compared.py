"""What a student lost: its scores beside its teacher's, from the same seed and the same held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from components import data, features, measure, pack, sampling, scores
from components.distil import known
from components.evaluate import class_mix

REPLICATES, CONFIDENCE = 200, 0.95


def compared(teacher: Path, student: Path, *, pixels: Path, splits: Path, samples: int, seed: int) -> dict[str, Any]:
    """KID and x0 error of both, and the student's KID less the teacher's, with intervals; as plain data."""
    images, rows = data.Pixels(pixels), {name: list(pack.read_split(splits, name)) for name in pack.SPLITS}
    class_ids = class_mix(known(sampling.load(teacher), images)[rows["train"]].tolist(), samples)
    found, described = {}, {}
    for name, folder in (("teacher", teacher), ("student", student)):
        model = sampling.load(folder)
        with measure.workers(folder) as run:
            described[name] = measure.described(run, measure.samples(run, class_ids, seed=seed), f"features of {name}")
            errors = measure.errors(run, pixels, rows["test"], seed=seed)
            real = measure.described(run, images.gather(sorted(rows["val"] + rows["test"])), "held-out features")
        found[name] = {
            "steps": model.steps, "guidance": model.guidance,
            "x0_error": scores.mean_intervals(errors, times=REPLICATES, confidence=CONFIDENCE, seed=seed)[-1],
        }  # fmt: skip
    found |= {"samples": samples, "seed": seed, "confidence": CONFIDENCE}
    source = torch.Generator().manual_seed(seed)
    weights = [scores.replicates(count, REPLICATES, source) for count in (samples, len(real))]
    ones = [torch.ones(1, count, dtype=torch.float64) for count in (samples, len(real))]
    value, spread = {}, {}
    for name in described:
        distance = scores.kid(described[name], real)
        value[name], spread[name] = float(distance(*ones)), distance(*weights)
        found[name][f"kid_{features.NAME}"] = _interval(spread[name], value[name])
    # The same replicates of both: pictures of one seed and number are siblings.
    found["kid_lost"] = _interval(spread["student"] - spread["teacher"], value["student"] - value["teacher"])
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The comparison as a table."""
    kid = f"kid_{features.NAME}"
    told = [f"{'':8} {'steps':>5} {'KID':>26} {'x0 error':>26}"]
    for name in ("teacher", "student"):
        cells = [f"{part['value']:.3g} ({part['low']:.3g} to {part['high']:.3g})"
                 for part in (found[name][kid], found[name]["x0_error"])]  # fmt: skip
        told.append(f"{name:8} {found[name]['steps']:>5} {cells[0]:>26} {cells[1]:>26}")
    lost = found["kid_lost"]
    return [*told, f"KID lost {lost['value']:+.3g} ({lost['low']:+.3g} to {lost['high']:+.3g}), of {found['samples']} "
                   "pictures from the same noise"]  # fmt: skip


def _interval(spread: torch.Tensor, value: float) -> dict[str, float]:
    low, high = scores.interval(spread, CONFIDENCE, around=value)
    return {"value": value, "low": low, "high": high}
