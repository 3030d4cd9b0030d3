"""A pipeline run in a process of its own: ``python -m flows.run ARGUMENTS``, started by flows/run/child.py only."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from components.base.events import clock
from flows.dvc import schema
from flows.workspace import exits, processes
from flows.workspace.paths import State


def main(text: str) -> int:
    """Do the run that the JSON ``text`` asks for; prints an error in one line and returns the exit code."""
    arguments = json.loads(text)
    try:
        return exits.exit_code(lambda: run(Path(arguments["root"]), tuple(arguments["force"])))
    except exits.Stopped as stopped:
        return 128 + stopped.number  # the process that passed the signal on prints a line


def run(root: Path, force: tuple[str, ...]) -> None:
    """One pipeline run through Prefect; the process that started this one holds the checkout's lock."""
    state = State(root)
    state.enter()
    schema.check(root)
    exits.note("starting Prefect")
    # The terminal shows one line a stage; everything else is in Prefect's own log (`stillroom ui`).
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.run import servers

    with processes.stoppable(), servers.prefect(state):
        from prefect.exceptions import TerminationSignal

        from flows.run.flow import pipeline

        began = last = time.monotonic()

        def say(name: str, how: str) -> None:
            nonlocal last
            exits.note(f"{name:>9}  {how}, {clock(time.monotonic() - last)}")
            last = time.monotonic()

        try:
            pipeline(str(root), force, say)
        except TerminationSignal:  # Prefect's own handler was the one that ran
            raise exits.Stopped(signal.SIGTERM) from None
        exits.note(f"done in {clock(time.monotonic() - began)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
