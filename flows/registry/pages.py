"""What MLflow's pages show of a pipeline run: parameters, its label, and the points of its curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from flows.history.store import PipelineRun

_CURVES = {"train/loss": "Curves/loss", "train/x0_error": "Curves/x0_error"}
"""Logged once more under a name with a capital letter: MLflow's page of charts is in the order of code points, so it
begins with them and not with the 15 single numbers of `clean`."""


def parameters(pipeline_run: PipelineRun) -> dict[str, str]:
    """Every value of params.yaml as ``section.key`` and text."""
    return {
        f"{section}.{key}": str(value)[:6000]
        for section, values in pipeline_run.sections.items()
        for key, value in (values or {}).items()
    }


def label(pipeline_run: PipelineRun) -> dict[str, str]:
    """The tags of MLflow's own that say what the run did."""
    name = pipeline_run.about.get("name") or f"pipeline run {pipeline_run.key[:8]}"
    return {"mlflow.runName": name, "mlflow.note.content": pipeline_run.about.get("note", "")}


def shown_first(points: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """``points`` and, of those that count most, a copy under a name that comes first."""
    return {**points, **{shown: points[name] for name, shown in _CURVES.items() if name in points}}


def of_training(history: Path | None) -> dict[str, list[tuple[int, float]]]:
    """The points of a training's history.jsonl, by the name of the metric; none without one."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in history.read_text("utf-8").splitlines() if history else []:
        row = json.loads(line)
        for name, value in row.items():
            if name != "step" and value is not None:
                points.setdefault(f"train/{name}", []).append((row["step"], value))
    return points
