"""What MLflow's pages show of a pipeline run: parameters, its label, and the points of its curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from flows.history import store
from flows.history.store import PipelineRun

_CURVES = {"train/loss": "Curves/loss", "train/x0_error": "Curves/x0_error"}
"""Logged once more under a name with a capital letter: MLflow's page of charts is in the order of code points, so it
begins with them and not with the 15 single numbers of `clean`."""
_WRITTEN = 2  # one more when a complete run holds something new: `stillroom sync` then adds it to older ones
BARE = " without what DVC's cache holds"
"""The end of the seal of an MLflow run that was written where the cache had no model of its run."""


def seal(pipeline_run: PipelineRun, *, cached: bool) -> str:
    """What says of an MLflow run that all of ``pipeline_run`` is in it; ``cached``: what DVC's cache has of it too."""
    made = {name: value for name, value in pipeline_run.about.items() if name in store.MADE}
    text = hashlib.sha256(json.dumps([_WRITTEN, made], sort_keys=True).encode()).hexdigest()[:16]
    return text if cached else text + BARE


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
