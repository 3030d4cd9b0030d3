"""The registry of a checkout that a test breaks by hand: its versions, a publish, and a kill."""

from __future__ import annotations

import os

from flows.registry import publish
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import Tracker
from flows.registry.versions import Versions


class Killed(BaseException):
    """What ends a process in the middle, as far as its own code can tell."""


def versions(state):
    """The versions that the registry of ``state`` has."""
    return Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), "denoiser")


def published(state):
    """Publish the run in the working tree again, and what was said."""
    lines = []
    publish.publish(state, {}, MetricStream(state), say=lines.append)
    return lines
