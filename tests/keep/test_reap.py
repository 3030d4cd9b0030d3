"""`stillroom reap`: what nobody works on is closed in Prefect and in MLflow; a living run is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from checkouts import ROOT, environment, stillroom, with_prefect
from registered import versions

from flows.keep import reap
from flows.run import alive
from flows.workspace import lock
from flows.workspace.paths import State

FLOW = """
import sys, time
from pathlib import Path
from prefect import flow
from flows.run import alive
from flows.workspace.paths import State

state, ended = State(Path(sys.argv[1])), sys.argv[2]

@flow(name="stillroom")
def work():
    working = alive.Working()
    working.begin(state, lambda: False)
    if ended == "well":
        working.ended(None, "v3: +10 images")
    if ended == "badly":
        working.ended(ValueError("no such column"))
    (state.folder / "begun").touch()
    time.sleep(300)

work()
"""


@pytest.fixture
def state(tmp_path):
    found = State(tmp_path)
    found.folder.mkdir()
    return found


def test_a_note_is_held_by_its_process_and_found_after_a_kill(state):
    child = os.fork()
    if not child:
        note = alive.Note(state, "one")
        note.say(type="COMPLETED", message="made", name="made")
        (state.folder / "ready").touch()
        time.sleep(300)
    while not (state.folder / "ready").exists():
        time.sleep(0.01)
    assert alive.noted(state) and list(alive.left(state)) == []
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (found,) = alive.left(state)
    assert (found.run, found.outcome["type"]) == ("one", "COMPLETED")


def test_a_note_that_was_never_named_goes(state):
    (state.folder / "flowruns").mkdir()
    (state.folder / "flowruns/.one-123").touch()
    assert list(alive.left(state)) == [] and not alive.noted(state)


def test_without_a_note_nobody_is_asked(state):
    assert alive.close(state, pytest.fail) == 0


@pytest.fixture
def lab(tmp_path):
    """A checkout whose runs find a Prefect server; nothing was run in it."""
    state = State(tmp_path)
    state.folder.mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "components").symlink_to(ROOT / "components")
    with_prefect(tmp_path)
    return state


def started(state: State, ended: str) -> subprocess.Popen[bytes]:
    url = json.loads(state.servers.read_text())["prefect"]["url"]
    own = environment() | {"PREFECT_API_URL": f"{url}/api", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/guard'}"}
    process = subprocess.Popen([sys.executable, "-c", FLOW, str(state.root), ended], env=own,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + 120
    while not (state.folder / "begun").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    (state.folder / "begun").unlink()
    return process


def shown(state: State, run: str) -> tuple[str, str, str]:
    """Type and message of the state, and the name, that Prefect shows of a flow run."""
    import urllib.request

    url = json.loads(state.servers.read_text())["prefect"]["url"]
    with urllib.request.urlopen(f"{url}/api/flow_runs/{run}", timeout=60) as response:
        found = json.load(response)
    return found["state"]["type"], found["state"]["message"] or "", found["name"]


@pytest.mark.slow(20)
def test_killed_runs_are_closed_as_they_ended_and_a_living_one_is_not(lab):
    every = {}
    for ended in ("not", "well", "badly", "living"):
        known = set(os.listdir(lab.folder / "flowruns")) if alive.noted(lab) else set()
        process = started(lab, ended)
        (run,) = set(os.listdir(lab.folder / "flowruns")) - known
        every[ended] = (run, process)
        if ended != "living":
            process.kill()
            process.wait()
    try:
        done = stillroom(lab.root, "reap")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("closed 3 run(s)\n")
        assert shown(lab, every["not"][0])[:2] == ("CRASHED", alive.KILLED)
        assert shown(lab, every["well"][0]) == ("COMPLETED", "v3: +10 images", "v3: +10 images")
        assert shown(lab, every["badly"][0])[:2] == ("FAILED", "no such column")
        assert shown(lab, every["living"][0])[0] == "RUNNING"
        assert stillroom(lab.root, "reap").stdout == "nothing to close\n"
    finally:
        every["living"][1].kill()
        every["living"][1].wait()


@pytest.mark.slow(5)
def test_mlflows_runs_are_ended_unless_somebody_holds_the_checkout(lived_in):
    tracker = versions(lived_in).tracker
    tracker.stream("train", 1, {"loss": 0.5})
    run = tracker.streaming
    said: list[str] = []
    with lock.held(lived_in.lock, what="stillroom run", wait=True, say=pytest.fail):
        assert reap.in_mlflow(lived_in, said.append) == 0
    assert said[0].startswith("MLflow's runs are left alone: this checkout is in use by `stillroom run`")
    assert tracker.run(run).info.status == "RUNNING"
    assert reap.in_mlflow(lived_in, said.append) == 1
    assert tracker.run(run).info.status == "KILLED"


@pytest.mark.slow(5)
def test_a_checkout_that_was_moved_ends_its_runs_too(lived_in):
    tracker = versions(lived_in).tracker
    tracker.stream("train", 1, {"loss": 0.5})
    run = tracker.streaming
    (lived_in.folder / "checkout").unlink()
    assert reap.in_mlflow(lived_in, lambda _: None) == 1
    assert tracker.run(run).info.status == "KILLED"
