"""Ranks: how many there are, going on with another number of them, and what is done when they have ended."""

import contextlib
import json
import logging
import os
import sys
import threading

import pytest
import torch
from train_fixtures import run, tiny

from components.base.errors import UserError
from components.diffusion.objective import Objective
from components.train import accumulate, checkpoint, loop, stage
from components.train.distributed import ranks
from components.train.step import Step


def test_another_number_of_ranks_goes_on_and_says_what_may_differ(packs, tmp_path, monkeypatch, caplog):
    others = tiny(ranks=2, loaders=1, keep=5, checkpoint_images=16, micro_batch=2)
    assert stage.key(tiny(), *packs) == stage.key(others, *packs)
    true_save = checkpoint.save

    def save(folder, images_seen, state, **options):
        assert (state["ranks"], state["micro"]) == (1, 8)
        true_save(folder, images_seen, state | {"ranks": 2, "micro": 4}, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiny(images=32, checkpoint_images=16), packs)
    monkeypatch.setattr(checkpoint, "save", true_save)
    with caplog.at_level(logging.INFO):
        _, made = run(tmp_path, tiny(images=32, checkpoint_images=16), packs)
    assert '{"step": 16, "ranks": 1.0, "micro_batch": 8.0}' in made["history.jsonl"].decode().splitlines()
    assert "going on from the checkpoint after 16 images" in caplog.text
    assert "is of ranks: 2, images at a time: 4; it goes on with ranks: 1, images at a time: 8." in caplog.text


@pytest.mark.parametrize(("gpus", "wanted", "said"), [(0, 2, 0), (1, 1, 1), (2, 2, 0), (8, 8, 1)])
def test_there_is_a_rank_for_each_gpu_which_is_said(monkeypatch, caplog, gpus, wanted, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with caplog.at_level(logging.INFO):
        assert ranks._possible(2) == wanted
    assert caplog.text.count("train.ranks 2 is for CPUs") == said


def test_the_model_is_written_when_the_other_ranks_have_ended_and_before_the_checkpoints_go(
    packs, tmp_path, monkeypatch
):  # fmt: skip
    """A slow export would keep them waiting beyond their limit; one that fails must leave something to go on from."""
    ended, true_write = [], stage._write

    @contextlib.contextmanager
    def together(*_):
        yield ranks.Group(0, 1, torch.device("cpu"))
        ended.append(True)

    def write(*arguments, **named):
        assert ended
        raise OSError("no space left on device")

    monkeypatch.setattr(stage, "together", together)
    monkeypatch.setattr(stage, "_write", write)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, tiny(images=16, validations=1), packs)
    assert [int(path.name[:12]) for path in tmp_path.rglob("*.pt")] == [16]
    monkeypatch.setattr(stage, "_write", true_write)
    monkeypatch.setattr(Step, "__call__", lambda *_: pytest.fail("trained again"))
    assert run(tmp_path, tiny(images=16, validations=1), packs)[0]["images_seen"] == 16
    assert not list(tmp_path.rglob("*.pt"))


# --- a rank without memory -------------------------------------------------------------------------------------


def test_a_step_that_does_not_fit_ends_with_one_line_and_its_checkpoints(packs, tmp_path, monkeypatch):
    true_loss, calls = Objective.loss, []

    def loss(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true_loss(*arguments)

    monkeypatch.setattr(Objective, "loss", loss)
    with pytest.raises(UserError, match=r"memory is full in a step that computes 8 images at once.*micro_batch below"):
        run(tmp_path, tiny(images=32, validations=1, checkpoint_images=16), packs)
    assert run(tmp_path, tiny(images=32, validations=1, micro_batch=4), packs)[0]["images_seen"] == 32
    assert len(calls) == 4 + 2 * 2, "the last two steps, in two pieces each"


def test_another_rank_without_memory_ends_with_a_code_of_its_own(packs, tmp_path, monkeypatch, caplog):
    def fit(*_):
        raise accumulate.OutOfMemory("memory is full")

    def leave(code):
        raise SystemExit(code)

    @contextlib.contextmanager
    def together(*_):
        yield ranks.Group(1, 2, torch.device("cpu"))

    job = loop.Job(params=tiny(), pixels=packs[0], splits=packs[1], folder=tmp_path)
    monkeypatch.setattr(sys, "argv", ["loop", job.command()[-1]])
    for name, fake in (("fit", fit), ("together", together)):
        monkeypatch.setattr(loop, name, fake)
    monkeypatch.setattr(loop.logging, "disable", lambda _: None)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as ended:
        loop._follow()
    assert ended.value.code == ranks.OUT_OF_MEMORY
    assert "rank 1: memory is full" in caplog.text
    assert json.loads(job.command()[-1])["params"]["ranks"] == 1


class Child:
    """A rank that ends with ``code`` when it is asked for the second time."""

    def __init__(self, code):
        self.code, self.asked, self.killed = code, 0, False

    def poll(self):
        self.asked += 1
        return self.code if self.asked > 1 else None

    def kill(self):
        self.killed = True


@pytest.mark.parametrize("code", [0, 3])
def test_the_first_rank_does_not_wait_for_one_that_failed(monkeypatch, tmp_path, caplog, code):
    """As it would in NCCL, from which nothing returns."""
    ended, children, meeting = threading.Event(), [Child(None), Child(code)], tmp_path / "ranks"
    monkeypatch.setattr(ranks, "_GRACE", 0.01)
    monkeypatch.setattr(ranks, "_EVERY", 0.01)
    monkeypatch.setattr(ranks.os, "_exit", lambda number: (codes.append(number), ended.set()))
    meeting.touch()
    codes = []
    with ranks._watching(children, meeting):
        assert ended.wait(5 if code else 0.2) == bool(code)
    assert codes == ([2] if code else [])
    assert meeting.exists() != bool(code)
    assert all(child.killed == bool(code) for child in children)
    assert ("training lost rank 2 with code 3" in caplog.text) == bool(code)
