"""A `dvc` command by hand beside a run: the run waits, says for whom, and both end well."""

import subprocess
import time

import pytest
from checkouts import dvc_locked, environment
from test_snapshot import project, reproduce

from flows.dvc import engine

SLOW = "until [ -e go ]; do sleep 0.05; done; cat data/in > out"


@pytest.fixture
def notes(monkeypatch):
    """What the run says, and what then happens."""
    said, then = [], []
    monkeypatch.setattr(engine.exits, "note", lambda line: (said.append(line), [act() for act in then]))
    return said, then


def test_a_run_waits_for_dvcs_lock_and_says_who_has_it(tmp_path, notes):
    said, then = notes
    folder = project(tmp_path / "project")
    with dvc_locked(folder) as holder:
        then.append(holder.kill)
        assert reproduce(folder) != "unchanged"
    assert len(said) == 1
    assert said[0].startswith("waiting for `-c ") and said[0].endswith(
        f"(process {holder.pid}), which is running in this checkout"
    )


@pytest.mark.slow(3)
def test_a_run_waits_for_a_stage_that_dvc_runs_by_hand(tmp_path, notes):
    said, then = notes
    folder = project(tmp_path / "project", SLOW)
    then.append((folder / "go").touch)
    env = {**environment(), "DVC_SITE_CACHE_DIR": str(folder / ".stillroom/dvc")}
    by_hand = subprocess.Popen(["dvc", "repro"], cwd=folder, env=env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    until = time.monotonic() + 60
    rwlock = folder / ".dvc/tmp/rwlock"
    while not (rwlock.exists() and '"write": {"' in rwlock.read_text()):
        assert by_hand.poll() is None and time.monotonic() < until, by_hand.stderr.read()
        time.sleep(0.05)
    assert reproduce(folder) == "unchanged"
    assert by_hand.wait(60) == 0
    line = f"waiting for `dvc repro` (process {by_hand.pid}), which is running in this checkout"
    assert set(said) == {line}
