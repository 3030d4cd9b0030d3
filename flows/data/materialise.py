"""Bring the data stages up to date without Prefect: for `stillroom data report` and `withdraw`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from components.base.events import clock
from flows.data import diff, edited, look, status
from flows.dvc import engine, snapshot
from flows.history import store
from flows.workspace import events, processes
from flows.workspace.paths import State


def materialise(state: State, *, say: Callable[[str], None]) -> dict[str, str]:
    """Look at the sources and bring each data stage up to date through DVC, under the caller's lock; how each was.

    After a kill the next call continues from the outputs that are complete.
    """
    how = {}
    with snapshot.begun(state.root, say), processes.stoppable():
        edited.check(state.root)
        engine.bring_back(state.root)
        look.look_at_sources(state, say=say)
        for stage in status.stages():
            began = time.monotonic()
            log = logging.getLogger(f"stillroom.{stage.name}")
            with events.following(state.events, stage.name, log=log, metrics=lambda *_: None):
                how[stage.name] = engine.reproduce(state.root, stage, watched=state.events)
            say(f"{stage.name:>9}  {how[stage.name]}, {clock(time.monotonic() - began)}")
    return how


def report(state: State, *, say: Callable[[str], None]) -> str:
    """Bring the data report up to date, show what changed since the last pipeline run, and say where both are."""
    materialise(state, say=say)
    at = Path(os.path.relpath(state.root))
    lines = [f"Report: {at / 'reports/data.html'}"]
    if store.last_decided(state.root) is None:
        return "\n".join([*lines, "Changes: none to show, no pipeline run has been published here yet"])
    found, names = diff.diff(state, "last", "now", pictures=200)
    return "\n".join([diff.lines(found, names), *lines, f"Gallery: {at / diff.PAGE}"])
