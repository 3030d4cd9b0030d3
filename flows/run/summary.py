"""What a pipeline run tells at its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows.registry import mlflow
from flows.workspace.paths import State


def of(state: State, result: dict[str, Any], *, seen_from: Path) -> str:
    """Where to find what a pipeline run made, for one who stands in the folder ``seen_from``."""
    at = Path(os.path.relpath(state.root, seen_from))
    rows = {
        "model": model(result),
        "sample grid": at / "models/evaluation/samples.png",
        "data report": at / "reports/data.html",
        "data changes": at / "reports/changes.html",
        "model report": at / "reports/model.html",
        "decision": at / "reports/decision.html",
        "MLflow run": _where(result),
        "draw pictures": f"stillroom sample --model models:/{result['name']}@champion --num 16 --out grid.png",
        "open the UIs": "stillroom ui",
    }
    for name, page in (("data changes", "changes"), ("decision", "decision")):
        if not (state.root / f"reports/{page}.html").is_file():
            del rows[name]
    return "\n".join([*waiting(result), *(f"{name:>14}  {value}" for name, value in rows.items())])


def model(result: dict[str, Any]) -> str:
    """The version, who is champion, and what was decided."""
    name = f"models:/{result['name']}/{result['version']}"
    if result["champion"] == result["version"]:
        said = f"{name} is the champion."
    elif result["champion"]:
        said = f"{name} is registered. The champion is version {result['champion']}."
    else:
        said = f"{name} is registered. There is no champion."
    return f"{said} {result['reason']}"


def waiting(result: dict[str, Any]) -> list[str]:
    """The line for the version that a person has to approve, where one waits."""
    named = f"{result['name']}@{result['waits']}"
    return [f"{named} waits for approval: `stillroom promote --approve {named}`"] if result["waits"] else []


def _where(result: dict[str, Any]) -> str:
    """The MLflow run and its page."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    served = uri.startswith("http")
    page = f"/#/experiments/{result['experiment']}/runs/{result['run']}{mlflow.TRAININGS}"
    address = f"{mlflow.shown(uri).rstrip('/') if served else 'http://127.0.0.1:5000'}{page}"
    return f"{result['run']}  ({address})" if served else f"{result['run']}  (after `stillroom ui`: {address})"
