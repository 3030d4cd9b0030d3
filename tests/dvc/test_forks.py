"""The data stages of a run are forks of one process: each is still one of its own, which can fail and be killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from checkouts import ROOT, environment
from data_checkout import copied

from components.pipeline import stage
from flows.dvc import dvcyaml, engine, forks
from flows.workspace import processes
from flows.workspace.paths import State


@pytest.fixture
def root(tmp_path):
    folder = copied(tmp_path / "checkout")
    State(folder).enter()
    yield folder
    forks.close()


def made(root, name):
    return engine.reproduce(root, stage(name), watched=State(root).events, force=True)


def test_the_commands_are_those_of_dvc_yaml():
    lines = dvcyaml.render().splitlines()
    assert forks.STAGES
    assert all(f"    cmd: {command}" in lines for command in forks.STAGES)


def test_one_process_serves_all_and_what_it_makes_is_what_a_shell_s_makes(root, monkeypatch):
    served = []
    for name in ("split", "profile"):
        assert made(root, name) == "executed"
        served.append(forks._held.process.pid)
    assert served[0] == served[1]
    together = engine.lock(root)
    monkeypatch.setattr(forks, "STAGES", {})
    for name in ("split", "profile"):
        assert made(root, name) == "executed"
    assert forks._held is None, "a stage of another kind ends it"
    assert engine.lock(root) == together


def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback(root, capfd):
    verdicts = root / "data/clean/verdicts.parquet"
    before = verdicts.read_bytes()
    verdicts.unlink()
    with pytest.raises(engine.StageFailed, match=r"verdicts\.parquet"):
        made(root, "split")
    verdicts.write_bytes(before)
    assert made(root, "split") == "executed", "the next one is none the worse"
    (root / "components/split/stage.py").write_text("def split(params, **paths):\n    raise ZeroDivisionError\n")
    capfd.readouterr()
    with pytest.raises(engine.StageCrashed):
        made(root, "split")
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.slow(4)
@pytest.mark.parametrize("whole", [False, True], ids=["the stage", "the process that forks"])
def test_killed_by_the_kernel_is_said_and_the_next_goes_on(root, whole):
    slow(root)
    worked = []

    def kill():
        until = time.monotonic() + 60
        while not (found := below(os.getpid())) and time.monotonic() < until:
            time.sleep(0.02)
        worked.extend(found)
        psutil.Process(found[0].ppid() if whole else found[0].pid).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    # The stage below a process that is killed gets SIGTERM, and may still say so.
    with pytest.raises((engine.StageKilled, engine.StageFailed) if whole else engine.StageKilled):
        made(root, "split")
    killer.join()
    assert not psutil.wait_procs(worked, timeout=20)[1], "no stage outlives it"
    assert made(root, "profile") == "executed"


@pytest.mark.slow(4)
@pytest.mark.parametrize("forked", [True, False], ids=["a fork", "by a shell"])
def test_a_ctrl_c_that_only_this_process_gets_stops_the_stage_too(root, monkeypatch, forked):
    slow(root)
    if not forked:
        monkeypatch.setattr(forks, "STAGES", {})
    worked = []

    def interrupt():
        until = time.monotonic() + 60
        while not (found := below(os.getpid())) and time.monotonic() < until:
            time.sleep(0.02)
        worked.extend(found)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made(root, "split")
    sender.join()
    assert time.monotonic() - began < 50, "it does not wait until the stage is done"
    assert not psutil.wait_procs(worked, timeout=20)[1]
    assert made(root, "profile") == "executed"


@pytest.mark.slow(3)
def test_no_stage_outlives_a_run_that_is_killed(root):
    slow(root)
    code = (
        "import sys; from pathlib import Path; from components.pipeline import stage; from flows.dvc import engine; "
        "root = Path(sys.argv[1]); engine.reproduce(root, stage('split'), watched=root / 'events', force=True)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=ROOT, env=environment())
    until = time.monotonic() + 60
    while not (found := below(run.pid)):
        assert time.monotonic() < until
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not psutil.wait_procs(found, timeout=20)[1]


def slow(root):
    """Have stage `split` take a minute."""
    text = "import time\n\n\ndef split(params, **paths):\n    time.sleep(60)\n    return {}\n"
    (root / "components/split/stage.py").write_text(text)


def below(pid):
    """The stages that are forks below ``pid``."""
    return [child for child in psutil.Process(pid).children(recursive=True) if processes._is_stage(child)]
