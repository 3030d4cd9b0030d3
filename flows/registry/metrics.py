"""Metric logging: what the running stages measure, streamed to MLflow; best effort, `stillroom sync` completes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.workspace.paths import State

if TYPE_CHECKING:
    from flows.registry.mlflow import Tracker


class MetricStream:
    """The metrics of the pipeline run in progress."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._tracker: Tracker | None = None

    @property
    def tracker(self) -> Tracker:
        """The tracker, opened once."""
        if self._tracker is None:
            from flows.registry.mlflow import Tracker

            self._tracker = Tracker(self.state, os.environ["MLFLOW_TRACKING_URI"])
            self._tracker.repair()
        return self._tracker

    def open(self) -> None:
        """Ask MLflow; UserError when it does not answer."""
        from flows.registry.mlflow import explained

        with explained(os.environ["MLFLOW_TRACKING_URI"]):
            _ = self.tracker

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Stream the ``values`` of ``stage`` at ``step``."""
        from flows.registry.mlflow import explained

        tracker = self.tracker
        with explained(tracker.uri):  # who logs what went wrong shall log no password
            tracker.stream(stage, step, values)

    def keep(self, stage: str, path: Path, folder: str) -> None:
        """Store the file ``path`` of ``stage`` in ``folder`` of the MLflow run."""
        from flows.registry.mlflow import explained

        tracker = self.tracker
        with explained(tracker.uri):
            tracker.keep(stage, path, folder)

    def stop(self, status: str) -> None:
        """End the streamed MLflow run of a pipeline run that failed."""
        if self._tracker is not None:
            self._tracker.stop_streaming(status)
