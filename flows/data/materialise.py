"""Bring the data stages up to date without Prefect: for `stillroom data report` and `withdraw`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from components.base.events import clock
from flows.data import diff, look, status
from flows.dvc import engine
from flows.history import store
from flows.workspace import events, processes
from flows.workspace.paths import State


def refresh(state: State, *, say: Callable[[str], None]) -> dict[str, str]:
    """Look at the sources and bring each data stage up to date through DVC; how each was; under the caller's lock.

    A killed refresh goes on from what is whole the next time, like any pass.
    """
    look.look(state, say=say)
    how = {}
    with processes.stoppable():
        for stage in status.stages():
            began = time.monotonic()
            log = logging.getLogger(f"stillroom.{stage.name}")
            with events.following(state.events, stage.name, log=log, points=lambda *_: None):
                how[stage.name] = engine.reproduce(state.root, stage, watched=state.events)
            say(f"{stage.name:>9}  {how[stage.name]}, {clock(time.monotonic() - began)}")
    return how


def report(state: State, *, say: Callable[[str], None]) -> str:
    """Bring the data report up to date, show what changed since the last pass, and say where both are."""
    refresh(state, say=say)
    at = Path(os.path.relpath(state.root))
    lines = [f" report  {at / 'reports/data.html'}"]
    if store.last_judged(state.root) is None:
        return "\n".join([*lines, "changes  none to show: no pass has concluded here yet"])
    found, names = diff.diff(state, "last", "now", pictures=200)
    return "\n".join([diff.told(found, names), *lines, f"gallery  {at / diff.PAGE}"])
