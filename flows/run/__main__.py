"""A pipeline run in a process of its own: ``python -m flows.run ARGUMENTS``, started by flows/run/child.py only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from components.base.errors import UserError
from components.base.events import clock
from components.base.stopping import Stopped
from flows.dvc import schema
from flows.workspace import exits, processes
from flows.workspace.paths import State


def main(text: str) -> int:
    """Do the run that the JSON ``text`` asks for; prints an error in one line and returns the exit code."""
    arguments = json.loads(text)
    try:
        return exits.exit_code(
            lambda: run(Path(arguments["root"]), tuple(arguments["force"]), Path(arguments["seen_from"]))
        )
    except Stopped as stopped:
        return 128 + stopped.number  # the process that passed the signal on prints a line


def run(root: Path, force: tuple[str, ...], seen_from: Path) -> None:
    """One pipeline run through Prefect; prints where its results are, for one who stands in ``seen_from``.

    The process that started this one holds the checkout's lock.
    """
    state = State(root)
    state.enter()
    schema.check(root)
    exits.note("starting Prefect")
    # The terminal shows one line a stage; everything else is in Prefect's own log (`stillroom ui`).
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.registry import publish
    from flows.run import alive, outage, servers, summary

    with processes.stoppable(), servers.prefect(state) as ready:
        import httpx
        from prefect.exceptions import PrefectException, TerminationSignal

        from flows.run.flow import pipeline

        ready()
        with contextlib.suppress(httpx.HTTPError, PrefectException):  # an earlier run's is no matter of this one
            alive.close(state, exits.note)
        began = last = time.monotonic()

        def say(name: str, how: str) -> None:
            nonlocal last
            exits.note(f"{name:>9}  {how}, {clock(time.monotonic() - last)}")
            last = time.monotonic()

        try:
            with outage.watched(exits.note) as watch:
                watch.result(lambda: pipeline(str(root), force, say, watch))
        except TerminationSignal:  # Prefect's own handler was the one that ran
            raise Stopped(signal.SIGTERM) from None
        exits.note(f"done in {clock(time.monotonic() - began)}\n")
    result, why = publish.published(state)
    if result is None:
        raise UserError(f"the run has ended, but {why}")
    print(summary.of(state, result, seen_from=seen_from), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
