"""The flow `refresh`: the data brought up to date and judged, and nothing trained."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.events import emit_event
from prefect.states import State as PrefectState

from components.pipeline import PIPELINE
from flows.dvc import engine
from flows.run import scheduled
from flows.run.deployments import EVENT
from flows.workspace.paths import State

STAGES = PIPELINE[: [stage.name for stage in PIPELINE].index("train")]
"""The stages of the data, up to its report."""


@flow(name="refresh", flow_run_name="refresh in progress", persist_result=False)
def refresh() -> PrefectState[Any]:
    """Look at the sources, take in what is new, judge it and hold it against the contract; train nothing.

    The state's name says how it ended: NoOp, Unchanged (stages ran and made the same), Changed, ContractBroken, Failed.
    """
    return scheduled.ended(lambda state, log: scheduled.looked_again(_once, state, log))


def _once(state: State, log: Any) -> scheduled.Ending:
    from flows.data import contract
    from flows.dvc import schema
    from flows.history import store

    root = state.root
    before = _data(state)
    with scheduled.alone(state, log, "refresh"):
        if not {stage.name for stage in STAGES} & set(scheduled.stale(state, log)):
            if bad := contract.violations(root):  # what came earlier is not pushed now
                raise scheduled.StillBroken(f"{bad[0]}: it was so before, and nothing is new")
            return "NoOp", "nothing to do"
        schema.check(root)
        from flows.run.flow import TASKS, check_contract

        state.events.unlink(missing_ok=True)
        store.begin(root)
        how = {stage.name: TASKS[stage.name](str(root), False, None) for stage in STAGES}
        check_contract(str(root))
        after = _data(state)
    ran = ", ".join(name for name, each in how.items() if each != "unchanged")
    if after == before:
        return "Unchanged", f"{ran}: the data is the same"
    changed = sorted(name for name in after if after[name] != before.get(name))
    emit_event(EVENT, {"prefect.resource.id": f"stillroom.project.{root.name}"}, payload={"stages": changed})
    return "Changed", f"new data: {', '.join(changed)}"


def _data(state: State) -> dict[str, Any]:
    """The hashes of the data, by stage; those of its report are left out."""
    stages = engine.lock(state.root)
    return {stage.name: stages.get(stage.name, {}).get("outs") for stage in STAGES if stage.name != "describe"}
