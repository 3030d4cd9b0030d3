"""The registry of a checkout that a test breaks by hand: its versions, a publish, and a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.registry import publish
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import Tracker
from flows.registry.versions import Versions
from flows.workspace.paths import State


class Killed(BaseException):
    """What ends a process in the middle, as far as its own code can tell."""


def copied(checkout: Path, folder: Path, monkeypatch) -> State:
    """A copy of ``checkout`` in ``folder``, as the present one."""
    shutil.copytree(checkout, folder, symlinks=True)
    state = State(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(state.folder / "dvc"))
    return state


def versions(state):
    """The versions that the registry of ``state`` has."""
    return Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), "denoiser")


def published(state):
    """Publish the run in the working tree again, and what was said."""
    lines = []
    publish.publish(state, {}, MetricStream(state), say=lines.append)
    return lines
