"""A stage or a command that is asked to stop more than once ends as the first asked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import python_path

ROOT = Path(__file__).resolve().parents[2]
# What each sends to itself while it ends, and again when Python ends.
AGAIN = """
import atexit, os, signal, sys, time
def again():
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
atexit.register(again)
def first(how):
    if how == "exit":  # as training, which saves its state first
        raise SystemExit(128 + signal.SIGTERM)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)
"""
STAGE = """
from components import __main__, pipeline
class Loud(pipeline.Stage):
    def run(self, params, root):
        try:
            first(sys.argv[1])
        finally:
            if sys.argv[1] != "exit":
                again()
pipeline.stage = lambda name: Loud(name=name, reads={}, writes={})
said = __main__._fail
__main__._fail = lambda line, code: (again(), said(line, code))[1]
sys.exit(__main__.main(["resize"]))
"""
COMMAND = """
from flows.cli import app
from flows.workspace import exits, processes
def work():
    with processes.stoppable():
        try:
            first(sys.argv[1])
        finally:
            again()
app._command = work
said = exits.fail
exits.fail = lambda line, code: (again(), said(line, code))[1]
app.main()
"""


@pytest.mark.parametrize(
    ("code", "how", "exit_code", "line"),
    [
        (STAGE, "SIGTERM", 143, "error: stage 'resize' was stopped by SIGTERM"),
        (STAGE, "SIGINT", 130, "error: stage 'resize' was stopped by SIGINT"),
        (STAGE, "exit", 143, "error: stage 'resize' was stopped by SIGTERM"),
        (COMMAND, "SIGTERM", 143, "error: stopped by SIGTERM"),
        (COMMAND, "SIGINT", 130, "error: stopped by Ctrl-C"),
    ],
)
def test_further_signals_do_not_change_how_it_ends(tmp_path, code, how, exit_code, line):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", AGAIN + code, how], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": python_path(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert done.returncode == exit_code
