"""Metric logging: what the running stages measure, streamed to MLflow; best effort, `stillroom sync` completes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.workspace.paths import State

if TYPE_CHECKING:
    from flows.registry.mlflow import Tracker

TASK = "stillroom.task"
"""Tag of an MLflow run: the task of a worker whose metrics it gets (flows/worker/task.py)."""


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

    def take_over(self, run_id: str, task: str) -> None:
        """Complete the MLflow run that a worker streamed ``task`` to, where it is this server's, and no other one."""
        tracker = self.tracker
        run = tracker.run(run_id) if tracker.streaming is None and not tracker.local else None
        if run is not None and run.info.status == "RUNNING" and run.data.tags.get(TASK) == task:
            tracker.streaming = run_id


class TaskStream(MetricStream):
    """The metrics of one task of a worker: all workers that went on with it stream to one MLflow run."""

    def __init__(self, state: State, task: str) -> None:
        super().__init__(state)
        self.task = task

    @property
    def tracker(self) -> Tracker:
        """The tracker, opened once, and the run found or made; it belongs to no checkout, so that none ends it."""
        if self._tracker is None:
            from flows.registry.mlflow import Tracker

            found = Tracker(self.state, os.environ["MLFLOW_TRACKING_URI"])
            query = f"attributes.status = 'RUNNING' and tags.`{TASK}` = '{self.task}'"
            runs = found.client.search_runs([found.experiment], query, max_results=1)
            run = runs[0] if runs else found.client.create_run(
                found.experiment, run_name="training on a worker in progress", tags={TASK: self.task}
            )  # fmt: skip
            found.streaming, self._tracker = run.info.run_id, found
        return self._tracker

    @property
    def run_id(self) -> str | None:
        """The MLflow run, None where nothing was streamed."""
        return self._tracker.streaming if self._tracker else None
