"""What another machine said of a training whose model this checkout took over: its libraries, and what kind it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.pipeline import STATE
from flows.dvc import engine

_PLACE = f"{STATE}/elsewhere.json"


def note(root: Path, about: Mapping[str, Any]) -> None:
    """Remember ``about`` ("libraries", "machine") of the model that dvc.lock names now."""
    files.write_text(root / _PLACE, json.dumps({"model": _model(engine.lock(root)), "about": dict(about)}) + "\n")


def of(root: Path, stages: Mapping[str, Any]) -> dict[str, Any]:
    """What was noted of the model of these ``stages``; nothing for one that was trained here."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # lost, it is as if it had been trained here
        said = json.loads((root / _PLACE).read_text("utf-8"))
        if said["model"] == _model(stages):
            return dict(said["about"])
    return {}


def forget(root: Path) -> None:
    """The model is made here again."""
    (root / _PLACE).unlink(missing_ok=True)


def _model(stages: Mapping[str, Any]) -> str:
    return engine.output(stages, "train", "models/candidate")
