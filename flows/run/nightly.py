"""The scheduled pipeline run: a Prefect deployment, served by `stillroom serve`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal
from prefect import flow, get_run_logger
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Completed, Failed
from prefect.states import State as PrefectState

from components.base.errors import UserError, brief
from components.collect.sourcefile import CHANGED
from flows.data import edited, look
from flows.data.contract import ContractBroken
from flows.dvc import engine, schema, snapshot
from flows.dvc.engine import StageFailed
from flows.registry import publish
from flows.run import notify, outage, share
from flows.run.flow import call, pipeline
from flows.workspace import exits, lock
from flows.workspace.paths import State

ROOT = "STILLROOM_SERVED"
"""Environment: the checkout that is served.

No flow takes a path: whoever reaches Prefect's API, which asks nobody for a password, could have another folder's
dvc.yaml run.
"""


SHARED = "STILLROOM_SHARED"
"""Environment: "pull" and "push", which a run does first and last (flows/run/share.py)."""


LOOKS = 3
"""How often a night looks at sources that change while it works."""
PUBLISHED = ("Promoted", "Waiting", "Refused")
"""The names of the state of a flow run that registered a version: champion now, for a person to approve, not better."""


@flow(name="nightly", flow_run_name="nightly run in progress", persist_result=False)
def nightly() -> PrefectState[Any]:
    """Look at the sources and, only when something changed, run the pipeline.

    The state's name says how it ended, for automations: NoOp, one of PUBLISHED, ContractBroken, or Failed.
    """
    log = get_run_logger()
    state = State(Path(os.environ[ROOT]))
    state.enter()
    try:
        name, line = _night(state, log)
    except ContractBroken as error:
        call(str(error))
        notify.tell(state.root.name, "contract broken", str(error), say=log.warning)
        return Failed(name="ContractBroken", message=str(error))
    except Exception as error:
        notify.tell(state.root.name, "failed", brief(error), say=log.warning)
        raise
    log.info(line)
    call(line)
    if name in PUBLISHED:
        notify.tell(state.root.name, name.lower(), line, say=log.warning)
    return Completed(name=name, message=line)


def _night(state: State, log: Any) -> tuple[str, str]:
    """The name of the state that the night ends in, and what it did in one line."""
    for left in reversed(range(LOOKS)):
        try:
            return _once(state, log)
        except StageFailed as error:
            if not left or CHANGED not in str(error):
                raise
            log.warning("%s; looking at it again", error)
    raise AssertionError


def _once(state: State, log: Any) -> tuple[str, str]:
    shared = os.environ.get(SHARED, "").split()

    def say(name: str, how: str) -> None:
        log.info("%s: %s", name, how)

    with (
        outage.watched(exits.note, runner=True) as watch,
        lock.held(state.lock, what="nightly", wait=True, say=log.info),
        share.around(state.root, log.info, pull="pull" in shared, push="push" in shared),
        snapshot.begun(state.root, log.info),
    ):
        edited.check(state.root)
        engine.bring_back(state.root)
        look.look_at_sources(state, say=log.info)
        if not engine.stale(state.root) and publish.published(state)[0]:
            return "NoOp", "nothing to do"
        schema.check(state.root)
        result = watch.result(lambda: pipeline(str(state.root), (), say, watch))
    name = PUBLISHED[0 if result["champion"] == result["version"] else 1 if result["waits"] else 2]
    return name, f"{result['name']} version {result['version']}: {result['reason']}"


def schedule(cron: str, timezone: str | None) -> CronSchedule:
    """``cron`` in ``timezone``, that of this machine unless given; UserError when either is none."""
    try:
        zone = tzlocal.get_localzone_name() if timezone is None else timezone
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        named = f"--timezone {timezone!r}" if timezone is not None else f"TZ={os.environ.get('TZ', '')!r}"
        raise UserError(f"{named}: not a time zone, such as Europe/Berlin or UTC") from None
    try:
        if len(cron.split()) != 5:
            raise ValueError("not five fields")
        return CronSchedule(cron=cron, timezone=zone)
    except ValueError:
        raise UserError(f"--cron {cron!r}: not a cron schedule of five fields, such as '0 3 * * *'") from None


def serve(state: State, when: CronSchedule, *, pull: bool = False, push: bool = False) -> None:
    """Start a run at the times of ``when``, one at a time, until Ctrl-C or SIGTERM."""
    # Prefect's runner does not await its own stop when SIGTERM comes.
    warnings.filterwarnings("ignore", message="coroutine 'Runner.astop' was never awaited")
    # Of the processes that runs are made in.
    os.environ |= {ROOT: str(state.root), SHARED: " ".join(["pull"] * pull + ["push"] * push)}
    nightly.serve(name="nightly", schedules=[when], limit=1, pause_on_shutdown=False, print_starting_message=False)
