"""What only reads never writes: `status`, `data status` and `run --dry-run`, beside a run and after a killed one."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import data_checkout
import pytest
from checkouts import command, dvc_locked, edit, environment, stillroom, with_prefect

from components.base import config
from flows.data import look, status
from flows.keep import plan
from flows.registry.mlflow import Tracker
from flows.registry.versions import Versions
from flows.run import launch
from flows.workspace.paths import State

READING = (("status",), ("data", "status"), ("run", "--dry-run"))


def files(root: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time and inode of every file, but for what is only remembered to be faster."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith((".git/", ".stillroom/")):
            state = path.stat()
            found[name] = state.st_size, state.st_mtime_ns, state.st_ino
    return found


def left_by_a_kill(root: Path) -> None:
    """A damaged rwlock, as DVC leaves it."""
    (root / ".dvc/tmp/rwlock").write_text('{"write": {')


@pytest.mark.parametrize("killed", [False, True], ids=["at rest", "after a kill"])
def test_reading_changes_no_file_and_takes_no_lock(tmp_path, capsys, killed):
    root = data_checkout.copied(tmp_path / "checkout")
    state = State(root)
    state.enter()
    if killed:
        left_by_a_kill(root)
    before = files(root)
    with dvc_locked(root):
        launch.status(state)
        plan.show(state)
        assert status.status(state)["stale"] == []
    printed = capsys.readouterr()
    assert "stale: train, evaluate, report\n" in printed.out
    assert "would run: train, evaluate, report\n" in printed.out
    assert {**files(root), ".dvc/tmp/lock": None} == {**before, ".dvc/tmp/lock": None}


def test_a_dry_run_sees_a_source_that_changed_and_leaves_the_page_alone(tmp_path, capsys):
    root = data_checkout.copied(tmp_path / "checkout")
    state = State(root)
    data_checkout.zipped(root / "source.zip", data_checkout.members(25))
    before = files(root)
    plan.show(state)
    assert "would run: collect, clean, " in capsys.readouterr().out
    assert files(root) == before
    look.look_at_sources(state, say=lambda line: None)
    assert not look.sources_changed(state, say=lambda line: None)
    (root / look.PAGE).unlink()
    assert look.sources_changed(state, say=lambda line: None)


def test_a_dry_run_fetches_nothing(tmp_path, here):
    root = data_checkout.copied(tmp_path / "checkout")
    (root / "list.csv").write_text(f"url\n{here.url('/a.png')}\n")
    source = config.of(root)["collect"]["sources"][0] | {
        "name": "web", "kind": "urls", "location": "list.csv", "url_column": "url", "seconds": 5.0, "attempts": 1,
        "private": True, "obey": False, "text_column": None, "label_column": None, "group_column": None,
    }  # fmt: skip
    edit(root, "collect", sources=[source])
    lines = []
    assert look.sources_changed(State(root), say=lines.append)
    assert lines == ["source web: 0 files, 0.0 MiB; not there: not_fetched 1"]
    assert not here.asked


@pytest.mark.slow(40)
def test_two_runs_at_once_become_one_after_the_other_and_reading_beside_them_breaks_neither(finished, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(finished[0], root, symlinks=True)
    with_prefect(root)
    edit(root, "evaluate", replicates=30)
    both = [
        subprocess.Popen(command("run"), cwd=root, env=environment(), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    read = 0
    while any(process.poll() is None for process in both):
        for words in READING:
            done = stillroom(root, *words)
            assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
            read += 1
            time.sleep(1)  # without a break the reading takes a core, and the runs twice as long
    assert read >= 2 * len(READING)
    printed = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sum("Nothing to do" in out for out, _ in printed) == 1
    # The one waits for the other, and neither for those that only read.
    assert [err.count("waiting for `stillroom run` (process ") for _, err in printed].count(1) == 1
    assert sum(err.count("waiting for") for _, err in printed) == 1
    assert "evaluate  executed" in "".join(err for _, err in printed)
    state = State(root)
    assert len(Versions(Tracker(state, state.database), "denoiser").all()) == 2
