"""A stage ends with the process that had it run, though a shell stands between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from components.base import starter

STAGE = (
    "import time; from components.base.starter import end_with_run; end_with_run(); print(flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("when", ["later", "before"])
def test_it_gets_sigterm_when_that_process_is_killed(when):
    run = subprocess.Popen(["sleep", "60"])
    if when == "before":
        run.kill()
        run.wait()
    own = {**os.environ, starter.VARIABLE: str(run.pid)}
    stage = subprocess.Popen([sys.executable, "-c", STAGE], env=own, stdout=subprocess.PIPE)
    if when == "later":
        assert stage.stdout.readline()
        run.kill()
        run.wait()
    assert stage.wait(20) == -signal.SIGTERM
    stage.stdout.close()


def test_it_goes_on_where_nobody_is_named():
    code = STAGE.replace("sleep(60)", "sleep(0.2)")
    own = {name: value for name, value in os.environ.items() if name != starter.VARIABLE}
    subprocess.run([sys.executable, "-c", code], env=own, check=True, timeout=30)
