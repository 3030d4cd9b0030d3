"""Checkpoints on the shelf, and who works: another worker goes on, and two never believe that a task is theirs."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest
from dvc.fs import LocalFileSystem

from flows.dvc.shelf import RemoteGone, Shelf
from flows.worker import keeper
from flows.worker.keeper import Keeper
from flows.worker.task import Task

TASK = Task("1" * 40, "2" * 64, "train")
KEY = "a" * 16


@pytest.fixture
def shelf(tmp_path):
    (tmp_path / "remote").mkdir()
    return Shelf(SimpleNamespace(name="shelf", fs=LocalFileSystem(), path=str(tmp_path / "remote")))


def checkpoint(images):
    return f"{KEY}/{images:012d}-{'b' * 16}.pt"


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def keeping(shelf, folder, run, said=None):
    return Keeper(shelf, TASK, folder, run, (said if said is not None else []).append)


def test_what_one_worker_saved_the_next_one_goes_on_from(shelf, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    first = keeping(shelf, one, "first")
    write(one, checkpoint(32), f"{KEY}/averages/000000000032-0.safetensors", f"{KEY}/.x.beside-1", "peaks.json")
    first.keep()
    write(one, checkpoint(64))
    (one / checkpoint(32)).unlink()  # replaced, as by train.keep
    first.keep()
    second = keeping(shelf, two, "second")
    assert second.restore() == 2
    assert sorted(path.name for path in two.rglob("*") if path.is_file()) == [
        "000000000032-0.safetensors", f"{64:012d}-{'b' * 16}.pt",
    ]  # fmt: skip
    write(two, checkpoint(96))
    second.keep()
    assert first.restore() == 1 and (one / checkpoint(96)).read_text() == checkpoint(96)


def test_the_checkpoints_of_a_training_that_has_ended_stay_until_its_result_is_there(shelf, tmp_path):
    first = keeping(shelf, tmp_path / "one", "first")
    write(first.folder, checkpoint(32))
    first.keep()
    shutil.rmtree(first.folder)
    first.keep()
    assert shelf.names(TASK.checkpoints) == {checkpoint(32)}
    first.forget()
    assert shelf.names(TASK.checkpoints) == set()


def test_names_that_lead_elsewhere_are_not_fetched(shelf, tmp_path):
    for name in ("../up.pt", f"{KEY}/../../up.pt", f"{KEY}/.hidden", "params.yaml", f"{KEY}x/y"):
        shelf.write(f"{TASK.checkpoints}/{name}", b"x")
    assert keeping(shelf, tmp_path / "one", "first").restore() == 0 and not (tmp_path / "one").exists()


def test_a_task_is_free_when_its_worker_has_ended_in_order(shelf, tmp_path):
    first = keeping(shelf, tmp_path / "one", "first")
    assert first.claim()
    with first:
        assert keeper.alive(shelf, TASK)
    assert keeper.alive(shelf, TASK) is None
    assert keeping(shelf, tmp_path / "two", "second").claim()


def test_another_worker_waits_while_one_lives_and_takes_over_when_it_is_silent(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "LOST", 0.2)
    first, said = keeping(shelf, tmp_path / "one", "first"), []
    assert first.claim()
    assert keeping(shelf, tmp_path / "two", "second", said).claim()
    assert said == ["flow run first works on it: waiting for it, or for it to be gone"]
    stopped = []
    monkeypatch.setattr(os, "kill", lambda pid, number: stopped.append((pid, number)))
    first._alive()
    assert first.overtaken and stopped == [(os.getpid(), signal.SIGTERM)]
    first.__exit__(None, None, None) if hasattr(first, "_threads") else None
    assert b'"second"' in keeper.alive(shelf, TASK), "who was overtaken takes nothing away"


def test_a_task_whose_result_is_there_by_then_is_nobodys(shelf, tmp_path):
    shelf.write(TASK.result, b"{}")
    assert not keeping(shelf, tmp_path / "one", "first").claim()


def test_a_worker_whose_claim_was_taken_back_stops(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: None)
    first = keeping(shelf, tmp_path / "one", "first")
    first.claim()
    shelf.remove(TASK.working)
    first._alive()
    assert first.overtaken


def test_a_remote_that_is_away_is_said_once_and_stops_no_training(shelf, tmp_path, monkeypatch):
    said = []
    first = keeping(shelf, tmp_path / "one", "first", said)

    def gone(*_, **__):
        raise OSError("Connection refused")

    write(first.folder, checkpoint(32))
    monkeypatch.setattr(LocalFileSystem, "makedirs", gone)
    first._try(first.keep)
    first._try(first.keep)
    assert said == [
        f"DVC's remote 'shelf', stillroom/{TASK.checkpoints}/{checkpoint(32)}: Connection refused; tried again"
    ]
    monkeypatch.undo()
    first._try(first.keep)
    assert shelf.names(TASK.checkpoints) == {checkpoint(32)}


def test_a_file_on_the_shelf_is_whole_or_not_there(shelf, tmp_path, monkeypatch):
    shelf.write("results/x.json", b"one")
    monkeypatch.setattr(type(LocalFileSystem().fs), "mv", lambda *_: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(RemoteGone, match="cut"):
        shelf.write("results/x.json", b"two")
    assert shelf.read("results/x.json") == b"one" and shelf.names("results") == {"x.json"}
    assert shelf.read("results/none.json") is None
