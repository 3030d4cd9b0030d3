"""One run at a time in a checkout."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from components.base.errors import UserError
from flows.workspace import lock

HOLDER = """
    import sys, time
    from pathlib import Path
    from flows.workspace import lock
    with lock.held(Path(sys.argv[1]), what="stillroom run", wait=True, say=print):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_holds_the_checkout(tmp_path, holder):
    wanted = f"`stillroom run` \\(process {holder.pid}\\)"
    with (
        pytest.raises(UserError, match=wanted),
        lock.held(tmp_path / "lock", what="x", wait=False, say=print),
    ):
        pass


def test_a_second_run_waits_for_the_first(tmp_path, holder):
    lines = []

    def say(line):
        lines.append(line)
        holder.send_signal(signal.SIGKILL)  # the kernel lets go of a dead holder's lock

    with lock.held(tmp_path / "lock", what="x", wait=True, say=say):
        assert lines == [f"waiting for `stillroom run` (process {holder.pid}), which is running in this checkout"]


def test_the_lock_is_free_after_use(tmp_path):
    for _ in range(2):
        with lock.held(tmp_path / "lock", what="x", wait=False, say=print):
            pass


def test_a_lock_file_of_another_user_is_held_all_the_same(tmp_path, monkeypatch):
    path, true = tmp_path / "lock", os.open
    path.write_text("")

    def refuse(name, flags, *mode):  # root could write into it
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return true(name, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with (
        lock.held(path, what="x", wait=False, say=print),
        pytest.raises(UserError, match="in use by another process"),
        lock.held(path, what="y", wait=False, say=print),
    ):
        pass
    path.unlink()
    with pytest.raises(PermissionError), lock.held(path, what="x", wait=False, say=print):
        pass
