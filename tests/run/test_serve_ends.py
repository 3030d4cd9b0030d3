"""However `stillroom serve` ends, nothing of what it started stays, and the checkout is free."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time

import psutil
import pytest
from checkouts import edit
from serving import served, wait_for

from flows.workspace import lock
from flows.workspace.paths import State

SOON = 45
"""Seconds on a busy machine; a stage has 15 to save what it can."""


@pytest.mark.slow(70)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_serve_started_ends_with_it_in_the_middle_of_training(finished, tmp_path, number):
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    edit(folder, "train", images=100_000)
    events = State(folder).events
    events.unlink(missing_ok=True)
    with served(folder) as (api, process):
        api.trigger("retrain/nightly")
        wait_for(lambda: events.exists() and '"kind":"start","stage":"train"' in events.read_text(), 200)
        below = psutil.Process(process.pid).children(recursive=True)
        lines = [" ".join(each.cmdline()) for each in below]
        assert sum("server start" in line or "uvicorn prefect" in line for line in lines) == 1, lines
        assert any("-m components train" in line for line in lines), lines
        process.send_signal(number)
        process.wait(SOON)
        _, alive = psutil.wait_procs(below, SOON)
    left = [each.cmdline() for each in alive]
    assert not left
    until = time.monotonic() + 5
    with contextlib.ExitStack() as stack:
        while True:
            with contextlib.suppress(Exception):
                stack.enter_context(lock.held(State(folder).lock, what="test", wait=False, say=print))
                break
            assert time.monotonic() < until, "somebody holds the checkout"
            time.sleep(0.1)
