"""What the flows of a schedule share: which checkout they work in, and how they end and tell it.

No flow takes a path or a command: whoever reaches Prefect's API could have another folder's dvc.yaml run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.states import Completed, Failed
from prefect.states import State as PrefectState

from components.base.errors import UserError, brief
from components.collect.sourcefile import CHANGED
from flows.data import edited, look
from flows.data.contract import ContractBroken
from flows.dvc import engine, snapshot
from flows.dvc.faults import StageFailed
from flows.dvc.freshness import Freshness
from flows.run import notify, outage, share
from flows.run.named import call
from flows.run.variables import ROOT, SHARED
from flows.workspace import exits, lock
from flows.workspace.paths import State, find

LOOKS = 3
"""How often a flow looks at sources that change while it works."""
Ending = tuple[str, str]
"""The name of the state that a flow ends in, and what it did in one line."""
QUIET = ("NoOp", "Unchanged", "Changed")
"""Names of states of which nobody is told: the nights in which nothing was decided."""


class StillBroken(ContractBroken):
    """The contract was broken before this run and nothing is new: people were told then."""


def workspace() -> State:
    """The checkout that this worker serves, entered; UserError where its environment names none."""
    root = os.environ.get(ROOT, "")
    if not root:
        raise UserError(
            f"{ROOT} is not set: the environment of the worker has to name the checkout that its flows work in"
        )
    state = find(Path(root))
    state.enter()
    return state


def ended(work: Callable[[State, Any], Ending]) -> PrefectState[Any]:
    """What a flow returns that does ``work``, called with the checkout and a log: a state that says by its name how.

    It is told to whom STILLROOM_NOTIFY names, unless nothing was decided (QUIET).
    """
    log, state = get_run_logger(), workspace()
    try:
        name, line = work(state, log)
    except ContractBroken as error:
        call(str(error))
        if not isinstance(error, StillBroken):
            notify.tell(state.root.name, "contract broken", str(error), say=log.warning)
        return Failed(name="ContractBroken", message=str(error))
    except Exception as error:
        notify.tell(state.root.name, "failed", brief(error), say=log.warning)
        raise
    log.info(line)
    call(line)
    if name not in QUIET:
        notify.tell(state.root.name, name.lower(), line, say=log.warning)
    return Completed(name=name, message=line)


@contextmanager
def alone(state: State, log: Any, what: str) -> Iterator[outage.Watch]:
    """Work on the checkout's stages: its lock held, Prefect's server watched, pulled before and pushed after."""
    shared = os.environ.get(SHARED, "").split()
    with outage.watched(exits.note, runner=True) as watch:
        watch.take(state)  # before it waits: a run that is killed there would show as running for ever
        with (
            lock.held(state.lock, what=what, wait=True, say=log.info),
            share.around(state.root, log.info, pull="pull" in shared, push="push" in shared, what=what),
            snapshot.begun(state.root, log.info),
        ):
            yield watch


def stale(state: State, log: Any) -> list[str]:
    """The stages that are not up to date, when the sources were looked at and what is missing here was brought back."""
    edited.check(state.root)
    engine.bring_back(state.root)
    look.look_at_sources(state, say=log.info)
    fresh = Freshness(state.root, state.folder / "fresh.json")
    try:
        return fresh.stale()
    finally:
        fresh.save()


def looked_again(once: Callable[[State, Any], Ending], state: State, log: Any) -> Ending:
    """What ``once`` returns, called again when a source changed meanwhile, LOOKS times at most."""
    for left in reversed(range(LOOKS)):
        try:
            return once(state, log)
        except StageFailed as error:
            if not left or CHANGED not in str(error):
                raise
            log.warning("%s; looking at it again", error)
    raise AssertionError
