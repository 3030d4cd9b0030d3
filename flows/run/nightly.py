"""The flow `retrain`: a pipeline run at night and when data came in, only when something changed."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State as PrefectState

from flows.run import scheduled
from flows.workspace.paths import State

PUBLISHED = ("Promoted", "Waiting", "Refused")
"""The names of the state of a flow run that registered a version: champion now, for a person to approve, not better."""


@flow(name="retrain", flow_run_name="retrain in progress", persist_result=False)
def retrain() -> PrefectState[Any]:
    """Look at the sources and, only when something changed, run the pipeline: train, measure, register, decide.

    The state's name says how it ended, for automations: NoOp, one of PUBLISHED, ContractBroken, or Failed.
    """
    return scheduled.ended(lambda state, log: scheduled.looked_again(_once, state, log))


def _once(state: State, log: Any) -> scheduled.Ending:
    from flows.dvc import schema
    from flows.registry import publish

    def say(name: str, how: str) -> None:
        log.info("%s: %s", name, how)

    with scheduled.alone(state, log, "retrain") as watch:
        if not scheduled.stale(state, log) and publish.published(state)[0]:
            return "NoOp", "nothing to do"
        schema.check(state.root)
        from flows.run.flow import pipeline  # here: MLflow, DVC and the tasks of all stages, which a NoOp does not need

        result = watch.result(lambda: pipeline(str(state.root), (), say, watch))
    name = PUBLISHED[0 if result["champion"] == result["version"] else 1 if result["waits"] else 2]
    return name, f"{result['name']} version {result['version']}: {result['reason']}"
