"""No worker outlives the process that started it, however that one ends."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from checkouts import ROOT, python_path

POOL = """
import sys, time
from components.base import processes
def start(): pass
def nap(_): time.sleep(600)
if __name__ == "__main__":
    with processes.pool(2, start) as pool:
        asked = [pool.submit(nap, at) for at in range(2)]
        while len(processes.multiprocessing.active_children()) < 2: time.sleep(0.05)
        time.sleep(0.5)
        print("ready", flush=True)
        asked[0].result()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_their_fork_server_end_with_the_one_that_asked_for_them(tmp_path, number):
    (tmp_path / "main.py").write_text(POOL)
    own = {**os.environ, "PYTHONPATH": python_path(ROOT, tmp_path)}
    process = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, env=own, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3, "a fork server and two workers"
    process.send_signal(number)
    process.communicate()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive
