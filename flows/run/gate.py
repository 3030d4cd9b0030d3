"""The flow `promote`: a person's word on a version, given from Prefect's pages."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State as PrefectState

from flows.run import scheduled
from flows.workspace import lock
from flows.workspace.paths import State


@flow(name="promote", flow_run_name="promote version {version}", persist_result=False)
def promote(version: int, reason: str = "") -> PrefectState[Any]:
    """Make ``version`` the champion and record ``reason``; without one, approve it as a version that waits.

    Its bytes are checked first, and nothing moves where they are not what is on record.  The state is named Promoted.
    """

    def work(state: State, log: Any) -> scheduled.Ending:
        from flows.registry import publish

        with lock.held(state.lock, what="promote", wait=True, say=log.info):
            return "Promoted", publish.promote(state, version, reason or None)

    return scheduled.ended(work)
