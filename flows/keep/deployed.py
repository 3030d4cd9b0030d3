"""The Prefect flows that keep house, for deployments; none takes a path or a command.

The checkout is that of the environment (flows/run/variables.py).  The name of the state says how each ended.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed
from prefect.states import State as PrefectState

from flows.keep import backfill as back
from flows.keep import gc as collection
from flows.keep import reap as reaping
from flows.keep import verify as checking
from flows.registry import records
from flows.run import notify
from flows.run.scheduled import workspace

NOTHING = "NoOp"


@flow(name="verify", persist_result=False)
def verify() -> PrefectState[Any]:
    """Check every version's bytes and the lineage of each alias; LineageBroken, and people are told, at a fault."""
    log, state = get_run_logger(), workspace()
    faults: list[str] = []
    checking.verify(state, fault=faults.append, well=log.info)
    for line in faults:
        log.error(line)
    if not faults:
        return Completed(message="every version and every link as recorded")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    notify.tell(state.root.name, "lineage broken", f"{faults[0]}{more}", say=log.warning)
    return Failed(name="LineageBroken", message=f"{faults[0]}{more}")


@flow(name="gc", persist_result=False)
def gc(yes: bool = False, keep: int = 10, days: float = 7.0) -> PrefectState[Any]:
    """Say what nothing needs any more, and remove it where ``yes`` says so."""
    collection.check(keep, days)
    log, lines = get_run_logger(), []

    def say(line: str) -> None:
        lines.append(line)
        log.info(line)

    found = collection.gc(workspace(), keep=keep, days=days, yes=yes, say=say)
    return Completed(name="Completed" if found else NOTHING, message=lines[-1])


@flow(name="reap", persist_result=False)
def reap() -> PrefectState[Any]:
    """Close the runs that nobody works on, in Prefect and in MLflow."""
    log, state = get_run_logger(), workspace()
    count = reaping.in_prefect(state, log.warning) + reaping.in_mlflow(state, log.warning)
    return Completed(name="Completed" if count else NOTHING, message=f"closed {count} run(s)")


@flow(name="rollback", persist_result=False)
def rollback(reason: str, to: int | None = None) -> PrefectState[Any]:
    """Move alias `champion` back to the version before it, or to version ``to``, which was champion once."""
    log, state = get_run_logger(), workspace()
    line = records.rollback(state, reason, to)
    notify.tell(state.root.name, "rolled back", f"{line}: {reason}", say=log.warning)
    return Completed(name="RolledBack", message=line)


@flow(name="backfill", persist_result=False)
def backfill(commits: list[str], dry_run: bool = False) -> PrefectState[Any]:
    """Run the pipeline at each commit in a worktree, and register what comes out without promoting it."""
    log = get_run_logger()
    made = back.backfill(workspace(), commits, dry_run=dry_run, say=log.info)
    bad = [one for one in made if one.fault]
    numbers = ", ".join(str(one.version) for one in made if one.version)
    if bad:
        return Failed(message=f"{len(bad)} of {len(made)} commits were not made; {bad[0].commit[:12]}: {bad[0].fault}")
    return Completed(message=f"version(s) {numbers}" if numbers else "nothing was done (dry run)")
