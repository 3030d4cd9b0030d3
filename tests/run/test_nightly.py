"""The schedule: a real Prefect server, a real runner, and a pass only when something changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from checkouts import command, environment, stillroom, with_prefect

from flows.workspace.paths import State

pytestmark = pytest.mark.slow


BUSY = 30
"""Seconds for which a busy server is asked again."""

NIGHTLY = {"flows": {"name": {"any_": ["nightly"]}}}


def call(url: str, body: dict) -> object:
    """What Prefect's API answers; it says 503 while its database is busy, and its own client then asks again."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for left in reversed(range(BUSY)):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503 or not left:
                raise
            time.sleep(1)
    raise AssertionError


def wait_for(condition, seconds: float = 90.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.5)
    return found


def ended(served: str, run: dict) -> str:
    """The state in which a flow run ends."""
    only = {"flow_runs": {"id": {"any_": [run["id"]]}}}

    def state():
        (found,) = call(f"{served}/api/flow_runs/filter", only)
        return found["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and found["state_type"]

    return wait_for(state)


@pytest.fixture
def served(finished, tmp_path):
    """`stillroom serve` in a copy of the finished checkout, whose Prefect notes its runs; that one's address."""
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    with_prefect(folder)
    assert stillroom(folder, "run").returncode == 0  # a checkout that moved publishes its run where it is now
    State(folder).servers.unlink()  # `serve` starts its own
    process = subprocess.Popen(command("serve", "--cron", "0 3 * * *"), cwd=folder, env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    try:
        line = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+", line)[0]
    finally:
        process.terminate()
        assert process.wait(60) in (0, 143)


def test_the_schedule_starts_runs_and_they_do_nothing_when_nothing_changed(served):
    runs = wait_for(lambda: call(f"{served}/api/flow_runs/filter", {"limit": 5, **NIGHTLY}))
    assert {run["state_name"] for run in runs} == {"Scheduled"}  # prefect 3.8.8 with sqlalchemy 2.1 makes none
    run = call(f"{served}/api/deployments/{runs[0]['deployment_id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    assert ended(served, run) == "COMPLETED"
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}  # they arrive a moment after the state
    wait_for(lambda: "nothing to do" in {line["message"] for line in call(f"{served}/api/logs/filter", wanted)})


def test_a_run_takes_no_folder_from_whoever_reaches_the_server_and_one_serves(served, finished, tmp_path):
    runs = wait_for(lambda: call(f"{served}/api/flow_runs/filter", {"limit": 5, **NIGHTLY}))
    assert runs[0]["parameters"] == {}
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"root": str(finished[0])}}
    run = call(f"{served}/api/deployments/{runs[0]['deployment_id']}/create_flow_run", body)
    assert ended(served, run) in ("FAILED", "CRASHED"), "the flow has no such parameter"
    second = stillroom(tmp_path / "checkout", "serve")
    assert second.returncode == 2 and "in use by `stillroom serve` (process" in second.stderr


@pytest.mark.parametrize(("options", "line"), [
    (("--cron", "every night"), "--cron 'every night': not a cron schedule of five fields, such as"),
    (("--cron", "0 3 * * * *"), "--cron '0 3 * * * *': not a cron schedule of five fields, such as"),
    (("--timezone", ""), "--timezone '': not a time zone, such as Europe/Berlin"),
    (("--timezone", "Mars/Olympus"), "--timezone 'Mars/Olympus': not a time zone, such as Europe/Berlin"),
])  # fmt: skip
def test_a_schedule_that_is_none_is_one_line(finished, options, line):
    done = stillroom(finished[0], "serve", *options)
    assert done.returncode == 2, done.stderr
    assert f"error: {line}" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "", "nothing was announced"


def test_a_schedule_is_meant_in_the_machine_s_own_time(monkeypatch):
    from flows.run import nightly

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    nightly.tzlocal.reload_localzone()
    assert nightly.schedule("0 3 * * *", None).timezone == "Asia/Tokyo"
    assert nightly.schedule("0 3 * * *", "Europe/Berlin").timezone == "Europe/Berlin"
    monkeypatch.undo()
    nightly.tzlocal.reload_localzone()
