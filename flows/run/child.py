"""Start a pipeline run in its own process, which the terminal's Ctrl-C does not reach, so that it can end in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from components.base.errors import UserError
from components.base.processes import die_with_parent
from components.base.stopping import Stopped
from flows.workspace.exits import PipelineCrashed


def run(root: Path, force: Sequence[str], *, lock: int) -> None:
    """Run the pipeline and wait; the process shares the open ``lock``, so the checkout is held until it has ended.

    SIGTERM and Ctrl-C are passed on as SIGTERM, and raise Stopped when the process has ended.  An empty UserError
    where it has printed the error in one line, PipelineCrashed for a bug.
    """
    arguments = json.dumps({"root": str(root), "force": list(force), "seen_from": str(Path.cwd())})
    caught: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if process.poll() is None:
            process.terminate()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.run", arguments], cwd=root, start_new_session=True,
        preexec_fn=die_with_parent, pass_fds=[lock],
    )  # fmt: skip
    try:
        for number in before:
            signal.signal(number, pass_on)
        code = process.wait()
    finally:
        if not caught:  # else a further one would change how this process ends
            for number, handler in before.items():
                signal.signal(number, handler)
    if caught:
        raise Stopped(caught[0])
    if code == 2:
        raise UserError("")
    if code - 128 in before:  # somebody stopped it and not this process
        raise Stopped(code - 128)
    if code:
        raise PipelineCrashed(f"the pipeline run ended with exit code {code}")
