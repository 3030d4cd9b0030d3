"""The schedule: a real Prefect server, a real runner, and a pass only when something changed."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from checkouts import command, edit, environment, stillroom, with_prefect

from components.base import config
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


def ended(served: str, run: dict) -> tuple[str, str]:
    """The type and the name of the state in which a flow run ends."""
    only = {"flow_runs": {"id": {"any_": [run["id"]]}}}

    def state():
        (found,) = call(f"{served}/api/flow_runs/filter", only)
        return found["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and (found["state_type"], found["state_name"])

    return wait_for(state)


@pytest.fixture
def told():
    """What a webhook on loopback was told, and its address as apprise writes it."""
    found = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found, f"json://127.0.0.1:{server.server_port}/night"
        server.shutdown()


@pytest.fixture
def served(finished, tmp_path, told):
    """`stillroom serve` in a copy of the finished checkout, whose Prefect notes its runs; that one's address."""
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    with_prefect(folder)
    assert stillroom(folder, "run").returncode == 0  # a checkout that moved publishes its run where it is now
    State(folder).servers.unlink()  # `serve` starts its own
    own = {**environment(), "STILLROOM_NOTIFY": told[1]}
    process = subprocess.Popen(command("serve", "--cron", "0 3 * * *"), cwd=folder, env=own,
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
    assert ended(served, run) == ("COMPLETED", "NoOp")
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}  # they arrive a moment after the state
    wait_for(lambda: "nothing to do" in {line["message"] for line in call(f"{served}/api/logs/filter", wanted)})


def test_a_run_takes_no_folder_from_whoever_reaches_the_server_and_one_serves(served, finished, tmp_path):
    runs = wait_for(lambda: call(f"{served}/api/flow_runs/filter", {"limit": 5, **NIGHTLY}))
    assert runs[0]["parameters"] == {}
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"root": str(finished[0])}}
    run = call(f"{served}/api/deployments/{runs[0]['deployment_id']}/create_flow_run", body)
    assert ended(served, run)[0] in ("FAILED", "CRASHED"), "the flow has no such parameter"
    second = stillroom(tmp_path / "checkout", "serve")
    assert second.returncode == 2 and "in use by `stillroom serve` (process" in second.stderr


def test_how_a_night_ended_is_the_name_of_its_state_and_is_told(served, told, tmp_path):
    folder = tmp_path / "checkout"
    (first,) = wait_for(lambda: call(f"{served}/api/deployments/filter", {"limit": 1}))

    def night():
        return ended(served, call(f"{served}/api/deployments/{first['id']}/create_flow_run",
                                  {"state": {"type": "SCHEDULED"}}))  # fmt: skip

    assert night() == ("COMPLETED", "NoOp") and told[0] == [], "of nothing nobody is told"
    before = config.read(folder / config.FILE)
    edit(folder, "contract", min_images=10**6)
    edit(folder, "train", seed=5)
    assert night() == ("FAILED", "ContractBroken")
    edit(folder, "contract", min_images=before["contract"]["min_images"])
    edit(folder, "train", images="many")
    assert night()[0] == "FAILED"
    edit(folder, "train", images=before["train"]["images"])
    kind, name = night()
    assert kind == "COMPLETED" and name in ("Promoted", "Waiting", "Refused")
    titles, lines = zip(*((each["title"], each["message"]) for each in told[0]), strict=True)
    assert titles == tuple(f"Stillroom checkout: {how}" for how in ("contract broken", "failed", name.lower()))
    assert "nothing was trained" in lines[0] and "train.images" in lines[1] and "version 2" in lines[2]


def test_an_address_that_is_none_is_one_line_that_does_not_repeat_it(finished):
    own = {**environment(), "STILLROOM_NOTIFY": "json://127.0.0.1 nonsense:s3cr3t"}
    done = subprocess.run(command("serve"), cwd=finished[0], env=own, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "STILLROOM_NOTIFY: address 2 of 2 is none that apprise knows" in done.stderr
    assert "s3cr3t" not in done.stderr and done.stderr.count("\n") == 1


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
