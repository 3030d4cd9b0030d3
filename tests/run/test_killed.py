"""A stage that the kernel ends, as for want of memory: said in one line, tried once more, and no bug of ours."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checkouts import with_prefect
from data_checkout import copied
from running import begun, stages_below

from components.pipeline import stage
from flows.dvc import engine, forks
from flows.workspace import paths


@pytest.mark.slow(5)
@pytest.mark.parametrize(("command", "killed"), [("kill -9 $$", True), ("sh -c 'kill -9 $$'; exit $?", True),
                                                 ("exit 3", False)])  # fmt: skip
def test_a_killed_stage_is_told_from_a_crashed_one(tmp_path, command, killed):
    root = copied(tmp_path / "checkout")
    path = root / "dvc.yaml"
    path.write_text(path.read_text().replace("python -m components split", command))
    with pytest.raises(engine.StageKilled if killed else engine.StageCrashed) as raised:
        engine.reproduce(root, stage("split"), watched=paths.State(root).events, force=True)
    if killed:
        assert str(raised.value).startswith("stage 'split' was killed (SIGKILL)") and "\n" not in str(raised.value)


@pytest.mark.slow(60)
def test_a_stage_that_is_killed_is_tried_once_more_and_a_second_time_is_one_line(finished, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(finished[0], root, symlinks=True)
    with_prefect(root)
    assert ended(root, times=1) == (0, 1)
    assert ended(root, times=2) == (2, 2)


def ended(root, *, times):
    """How a run ends whose training is killed ``times`` times, and how often it said so."""
    process = begun(root, "train", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(times):
        gone = {pid for pid in stages_below(root) if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while process.poll() is None and not set(stages_below(root)) - gone and time.monotonic() < until:
            time.sleep(0.1)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err and "bug of Stillroom" not in err, err
    return process.returncode, err.count("stage 'train' was killed (SIGKILL)")


def test_an_account_without_a_shell_can_run_a_stage(tmp_path, monkeypatch):
    root = copied(tmp_path / "checkout")
    monkeypatch.setenv("SHELL", "/usr/sbin/nologin")
    monkeypatch.setattr(forks, "STAGES", {})  # these need no shell
    paths.State(root).enter()
    assert engine.reproduce(root, stage("split"), watched=paths.State(root).events, force=True) == "executed"
