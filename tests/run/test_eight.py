"""Eight starts at once: one works, seven say at once for whom they wait, and find nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from checkouts import command, edit, environment, with_prefect

from components.base import config
from flows.workspace import lock
from flows.workspace.paths import State

SOON = 60
"""Seconds in which eight interpreters have started on a busy machine; on an idle one it takes three."""


@pytest.mark.slow(40)
def test_one_of_eight_works_and_seven_wait_for_it(two, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(two, root, symlinks=True)
    with_prefect(root)
    edit(root, "report", magnify=config.of(root)["report"]["magnify"] + 5)
    every = [
        subprocess.Popen(command("run"), cwd=root, env=environment(), text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
        for _ in range(8)
    ]  # fmt: skip
    said = [process.communicate(timeout=500) for process in every]
    assert [process.returncode for process in every] == [0] * 8, said
    worked = [err for _, err in said if "report  executed" in err]
    waited = [(out, err) for out, err in said if "report  executed" not in err]
    assert (len(worked), len(waited)) == (1, 7)
    for out, err in waited:
        assert "waiting for `stillroom run` (process " in err.splitlines()[0], err
        assert out.startswith("Nothing to do: "), out


@pytest.mark.slow(5)
def test_who_does_not_wait_is_told_by_whom_it_is_held(two, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(two, root, symlinks=True)
    with lock.held(State(root).lock, what="stillroom run", wait=True, say=pytest.fail):
        began = time.monotonic()
        every = [
            subprocess.Popen(command("run", "--no-wait"), cwd=root, env=environment(), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(7)
        ]  # fmt: skip
        said = [process.communicate(timeout=SOON)[1] for process in every]
        assert time.monotonic() - began < SOON
    line = (
        f"error: this checkout is in use by `stillroom run` (process {os.getpid()}): wait for it, or work in another "
    )
    assert all(err.startswith(line) and err.count("\n") == 1 for err in said), said
