"""A run whose Prefect server goes away: it goes on without it, and a stopped one ends at once."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time

import psutil
import pytest
from checkouts import command, edit, environment, free_port

from components.base.errors import UserError
from components.base.stopping import Stopped
from flows.run import outage
from flows.workspace import lock
from flows.workspace.paths import State

SOON = 45
"""Seconds in which a stopped run ends on a busy machine; it takes 3 on an idle one, and half an hour when it hangs."""


@pytest.fixture
def forgot(monkeypatch):
    """How often Prefect's client was told to ask no more."""
    times = []
    monkeypatch.setattr(outage, "forget", lambda: times.append(1))
    return times


def test_a_server_counts_as_gone_when_nobody_listens_for_a_while_and_then_once(forgot):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = outage.Watch(f"http://127.0.0.1:{server.getsockname()[1]}/api", said.append, runner=True)
        watch.look(patience=0)  # it listens and never answers: it is slow, not gone
        assert not watch.gone
    watch.look(patience=60)
    assert (watch.gone, said, forgot) == (False, [], [])
    for _ in range(3):
        watch.look(patience=0)
    assert (watch.gone, said, forgot) == (True, [outage.LINE], [1])


@pytest.mark.parametrize("ended", [{"version": "1"}, UserError("the user's mistake"), Stopped(signal.SIGTERM)])
def test_how_the_work_ended_counts_and_not_that_prefect_could_not_write_it_down(forgot, ended):
    watch = outage.Watch(f"http://127.0.0.1:{free_port()}", lambda _: None, runner=True)

    def flow():
        if isinstance(ended, dict):
            watch.outcome.set_result(ended)
        else:
            watch.ended(ended)
        watch.look(patience=0)
        raise ConnectionError("no Prefect")

    with pytest.raises(type(ended)) if isinstance(ended, BaseException) else contextlib.nullcontext():
        assert watch.result(flow) == ended


def test_an_error_that_came_of_a_stop_is_a_stop():
    stopped, error = Stopped(signal.SIGTERM), UserError("dvc: Unlock called on an unlocked lock")
    error.__context__ = stopped
    assert outage.asked(error) is stopped
    assert outage.asked(UserError("another")) is not stopped


def begun(finished, place, *arguments: str) -> subprocess.Popen[str]:
    """A run in a copy of the finished checkout, with a Prefect server of its own, that trains now."""
    folder = place / "checkout"
    if not folder.exists():
        shutil.copytree(finished[0], folder, symlinks=True)
    edit(folder, "train", images=512)
    events = State(folder).events
    events.unlink(missing_ok=True)
    process = subprocess.Popen(command("run", *arguments), cwd=folder, env=environment(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    until = time.monotonic() + 200
    while not events.exists() or '"kind":"start","stage":"train"' not in events.read_text():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)
    return process


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def free(folder, seconds: float) -> None:
    """The checkout's lock is let go of within ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(UserError), lock.held(State(folder).lock, what="test", wait=False, say=print):
            return
        time.sleep(0.1)
    raise AssertionError("somebody holds the lock")


@pytest.mark.slow(30)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_all_processes_at_once_ends_the_run(finished, tmp_path, number):
    process = begun(finished, tmp_path)
    for each in [psutil.Process(process.pid), *below(process)]:
        each.send_signal(number)
    _, stderr = process.communicate(timeout=SOON)
    assert process.returncode == 128 + number, stderr
    assert stderr.count("error: ") == 1 and "error: stopped by" in stderr and "Traceback" not in stderr, stderr
    free(tmp_path / "checkout", 1)


@pytest.mark.slow(30)
def test_a_run_that_is_killed_lets_go_of_the_checkout(finished, tmp_path):
    process = begun(finished, tmp_path)
    process.kill()
    process.communicate(timeout=SOON)
    free(tmp_path / "checkout", SOON)


@pytest.mark.slow(60)
@pytest.mark.parametrize("shared", [False, True])
def test_a_run_goes_on_without_its_server_and_registers_what_it_made(finished, tmp_path, shared):
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    ui = subprocess.Popen(command("ui", *ports), cwd=folder, env=environment(), stdout=subprocess.PIPE,
                          text=True) if shared else None  # fmt: skip
    try:
        if ui:
            while "Ctrl-C" not in (line := ui.stdout.readline()):
                assert line, "the servers do not start"
        process = begun(finished, tmp_path)
        if ui:
            ui.terminate()
            ui.wait(SOON)
        else:
            (server,) = (each for each in below(process) if "server" in each.cmdline())
            server.kill()
        stdout, stderr = process.communicate(timeout=300)
    finally:
        if ui and ui.poll() is None:
            ui.kill()
    assert process.returncode == 0, stderr
    assert stderr.count(outage.LINE) == 1 and "Traceback" not in stderr and "ERROR" not in stderr, stderr
    assert "denoiser" in stdout
    free(folder, 1)
    assert (folder / "reports/decision.html").is_file()
