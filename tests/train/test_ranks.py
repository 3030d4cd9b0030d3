"""Ranks: how many there are, going on with another number of them, and what is done when they have ended."""

import contextlib
import logging

import pytest
import torch
from train_fixtures import run, tiny

from components.train import checkpoint, stage
from components.train.distributed import ranks
from components.train.step import Step


def test_another_number_of_ranks_goes_on_and_says_what_may_differ(packs, tmp_path, monkeypatch, caplog):
    others = tiny(ranks=2, loaders=1, keep=5, checkpoint_images=32)
    assert stage.key(tiny(), *packs) == stage.key(others, *packs)
    true_save = checkpoint.save

    def save(folder, images_seen, state, **options):
        assert state["ranks"] == 1
        true_save(folder, images_seen, state | {"ranks": 2}, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiny(images=32), packs)
    monkeypatch.setattr(checkpoint, "save", true_save)
    with caplog.at_level(logging.INFO):
        run(tmp_path, tiny(images=32), packs)
    assert "going on from the checkpoint after 16 images" in caplog.text
    assert "made by 2 ranks, 1 go on" in caplog.text


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

    def write(*arguments):
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
