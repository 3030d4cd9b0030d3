"""The curves of the pass under way, streamed to MLflow as the stages tell them; best effort."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.workspace.paths import State

if TYPE_CHECKING:
    from flows.registry.mlflow import Tracker


class Curves:
    """Opens MLflow at the first point and not before: most passes have nothing to stream."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._tracker: Tracker | None = None

    @property
    def tracker(self) -> Tracker:
        """The tracker of this pass, opened once."""
        if self._tracker is None:
            from flows.registry.mlflow import Tracker

            self._tracker = Tracker(self.state, os.environ["MLFLOW_TRACKING_URI"])
            self._tracker.repair()
        return self._tracker

    def add(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Stream the ``values`` of ``stage`` at ``step``."""
        self.tracker.stream(stage, step, values)

    def stop(self, status: str) -> None:
        """End the streamed run of a pass that came to no good end."""
        if self._tracker is not None:
            self._tracker.stop_streaming(status)
