"""What is there for who watches a training, sheets and a profile, and that watching changes nothing."""

import json
import logging
import os
import signal

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from train_fixtures import COMPACT, DIT, UNET, latent_pack, run, tiny

from components.base import events
from components.dataset import tensors
from components.model import sampling
from components.train import profiling, sheets, state
from components.train.distributed.ranks import Group
from components.train.step import Step

ALONE = Group(0, 1, torch.device("cpu"))


@pytest.mark.slow(7)
def test_each_check_leaves_a_sheet_and_the_model_is_the_same_bytes(tmp_path, packs, monkeypatch):
    told = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.VARIABLE, str(told))
    _, plain = run(tmp_path / "plain", tiny(), packs)
    _, watched = run(tmp_path / "watched", tiny(sheet=5, profile=2, images=128, validations=2), packs)
    sheets = sorted((tmp_path / "watched/scratch/samples").iterdir())
    assert [path.name for path in sheets] == ["000000000064.png", "000000000128.png"]
    columns = len(tensors.Pixels(packs[0]).header.classes)
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (columns * 98 + 2, -(-5 // columns) * 98 + 2)  # 8 px, twelve times as wide
    files = [line for line in map(json.loads, told.read_text().splitlines()) if line["kind"] == "file"]
    assert sorted(line["folder"] for line in files) == ["profile", "profile", "samples", "samples"]
    assert {line["path"] for line in files if line["folder"] == "samples"} == {str(path) for path in sheets}
    assert not (tmp_path / "plain/scratch/samples").exists()
    _, again = run(tmp_path / "again", tiny(images=128, validations=2), packs)
    assert watched == again
    assert plain.keys() == again.keys()


def test_sheets_of_an_earlier_training_go(tmp_path, packs):
    stale = tmp_path / "scratch/samples/000000000999.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    run(tmp_path, tiny(sheet=1), packs)
    assert sorted(path.name for path in stale.parent.iterdir()) == ["000000000032.png", "000000000064.png"]


def test_only_sheets_are_removed_from_their_folder(tmp_path, caplog):
    for name in ("000000000032.png", "000000000064.png", "my-drawing-1.png"):
        (tmp_path / name).touch()
    (tmp_path / "000000000096.png").mkdir()
    sheets.fresh(tmp_path, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000032.png", "000000000096.png", "my-drawing-1.png"]  # fmt: skip


def test_a_sheet_that_cannot_be_written_or_drawn_does_not_end_the_training(tmp_path, packs, caplog, monkeypatch):
    (tmp_path / "file/scratch").mkdir(parents=True)
    (tmp_path / "file/scratch/samples").touch()
    _, model = run(tmp_path / "file", tiny(sheet=1), packs)
    assert caplog.text.count("no sheet after 32 images: ") == 1 == caplog.text.count("no sheet after 64 images: ")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sampling, "sample", full)
    assert run(tmp_path / "memory", tiny(sheet=1), packs)[1] == model
    assert "no sheet after 32 images: CUDA out of memory" in caplog.text


@pytest.mark.slow
def test_a_training_stopped_while_it_draws_a_sheet_draws_no_further_and_goes_on(tmp_path, packs, monkeypatch):
    _, whole = run(tmp_path / "whole", tiny(sheet=2), packs)
    real, steps = sampling.sample, []

    def sample(*arguments, progress, **options):
        def stop(count):
            steps.append(count)
            os.kill(os.getpid(), signal.SIGTERM)
            progress(count)

        return real(*arguments, progress=stop, **options)

    with monkeypatch.context() as context:
        context.setattr(sampling, "sample", sample)
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path / "again", tiny(sheet=2), packs)
    assert (stopped.value.code, len(steps)) == (128 + signal.SIGTERM, 1)
    assert not (tmp_path / "again/scratch/samples").exists()
    assert run(tmp_path / "again", tiny(sheet=2), packs)[1] == whole
    assert [path.name for path in (tmp_path / "again/scratch/samples").iterdir()] == ["000000000064.png"]


def test_a_training_that_can_have_no_sheets_says_why(tmp_path, caplog):
    run(tmp_path, tiny(sheet=2), latent_pack(tmp_path / "pack"))
    assert caplog.text.count("train.sheet 2, but no sheet is drawn in this training: its samples are no pictures") == 1


def test_a_profile_says_where_the_time_of_some_steps_goes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    profile = profiling.Profile(2, tmp_path, torch.device("cpu"))
    profile.start()
    for _ in range(profiling.FIRST + 3):
        torch.ones(64, 64) @ torch.ones(64, 64)
        profile.step()
    profile.close()
    assert "aten::mm" in (tmp_path / "profile.txt").read_text()
    assert json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    assert caplog.text.count("where the time goes is in") == 1


@pytest.mark.parametrize("name", ["profile.txt", "profile.json"])
def test_a_profile_that_cannot_be_written_does_not_end_the_training(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    (tmp_path / "to" / name).mkdir(parents=True)
    profile = profiling.Profile(1, tmp_path / "to", torch.device("cpu"))
    profile.start()
    for _ in range(profiling.FIRST + 1):
        profile.step()
    profile.close()
    assert "train.profile: not written: " in caplog.text
    assert not (tmp_path / "events.jsonl").exists() and not list((tmp_path / "to").glob(".*"))


def test_a_training_too_short_for_a_profile_says_so(tmp_path, caplog):
    profile = profiling.Profile(5, tmp_path, torch.device("cpu"))
    profile.start()
    profile.step()
    profile.close()
    assert "train.profile: the training ended before step 15, so nothing was written" in caplog.text
    assert not list(tmp_path.iterdir())


class Kept:
    """Counts the bytes that a forward pass keeps for its backward pass."""

    def __enter__(self):
        self.bytes = 0

        def pack(value):
            self.bytes += value.nbytes
            return value

        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


@pytest.mark.parametrize("network", [COMPACT, UNET, DIT | {"width": 32}], ids=lambda network: network["kind"])
def test_activations_that_are_computed_again_give_the_same_gradients_from_less_memory(packs, network):
    pixels = tensors.Pixels(packs[0])
    found = []
    for again in (False, True):
        params = tiny(network=network, onnx=network is COMPACT, recompute=again)
        begun = state.start(params, pixels, ALONE)
        with torch.no_grad():  # some begin as zeros, through which no gradient goes
            for weight in begun.learning:
                weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        step = Step(params, begun, ALONE)
        shape = (4, *pixels.header.spec.shape)
        image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        labels = torch.arange(4) % 2
        with Kept() as kept:
            losses = begun.objective.loss(
                step.model, image, image.flip(0), torch.full((4,), 0.7), {"label": labels}, "plain"
            )
        losses.mean().backward()
        found.append((kept.bytes, [weight.grad.clone() for weight in begun.learning]))
    (plain, wanted), (less, grads) = found
    torch.testing.assert_close(grads, wanted, rtol=0, atol=0)
    assert less < 0.7 * plain, f"{less} of {plain}"


def test_the_rate_falls_in_a_line_or_by_half_a_cosine_or_not_at_all():
    linear, cosine, constant = (
        tiny(images=800, batch=8, warmup_images=0, constant_until=until, final_rate=0.1, learning_rate=1.0, fall=fall)
        for until, fall in ((0.5, "linear"), (0.5, "cosine"), (1.0, "linear"))
    )
    middle = 600
    assert linear.rate(middle) == pytest.approx(0.55) == cosine.rate(middle)
    assert cosine.rate(480) > linear.rate(480) and cosine.rate(720) < linear.rate(720)
    assert linear.rate(800) == pytest.approx(0.1) == cosine.rate(800)
    assert {constant.rate(seen) for seen in range(0, 800, 8)} == {1.0}


def test_adamw_takes_its_betas_and_epsilon(packs):
    begun = state.start(tiny(betas=[0.8, 0.95], epsilon=1e-6), tensors.Pixels(packs[0]), ALONE)
    assert all((group["betas"], group["eps"]) == ((0.8, 0.95), 1e-6) for group in begun.optimiser.param_groups)


def test_an_epsilon_that_float32_has_not_is_refused_and_the_least_moves_no_weight_without_gradient(packs):
    with pytest.raises(ValidationError, match="epsilon"):
        tiny(epsilon=1e-50)  # 0 in float32: what a label that was not met has learnt would be 0 / 0
    begun = state.start(tiny(epsilon=1e-30, muon_rate=0.0, weight_decay=0.0), tensors.Pixels(packs[0]), ALONE)
    before = [weight.detach().clone() for weight in begun.learning]
    for weight in begun.learning:
        weight.grad = torch.zeros_like(weight)
    begun.optimiser.step()
    torch.testing.assert_close([weight.detach() for weight in begun.learning], before, rtol=0, atol=0)
