"""Guards: what is not finite moves nothing, a leap is undone and its images named, impatience keeps the best."""

import contextlib
import json
import logging
import os
import signal

import pytest
import safetensors.torch
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_fixtures import run, tiny

from components.base.errors import UserError
from components.dataset import order
from components.diffusion import x0_error
from components.diffusion.schedule import BANDS
from components.samples import pack
from components.train import checkpoint, guards, history
from components.train.feed import Feed
from components.train.params import GuardParams

BATCH = 8


def lines(files):
    return [json.loads(line) for line in files["history.jsonl"].splitlines()]


# --- the statistics of one step ---------------------------------------------------------------------------------------


def stats(step, loss, norm=1.0):
    values = torch.zeros(2 * BANDS + 3, dtype=torch.float64)
    values[0], values[BANDS], values[2 * BANDS] = loss * BATCH, BATCH, norm
    return guards.StepStats(step * BATCH, 1000 + step * BATCH, values)


def guard(spike=10.0, window=16):
    return guards.Guard(GuardParams(spike=spike, window=window, give_up=1), BATCH)


def usual(guard, steps=30):
    """Losses of 1 with deviations of up to 0.2, half of them above 0.1."""
    for step in range(steps):
        assert guard.see(stats(step, 1 + 0.05 * (step * 7 % 9 - 4))) is None
    return steps


def test_a_spike_names_the_window_that_led_to_it():
    watching = guard()
    step = usual(watching)
    assert watching.see(stats(step, 1.5)) is None
    spike = watching.see(stats(step + 1, 3.0))
    assert spike.images_seen == (step - 6) * BATCH
    assert (spike.first, spike.last) == (1000 + (step - 6) * BATCH, 1000 + (step + 2) * BATCH)
    assert spike.why == "loss 3 where 1.02 was usual"


def test_a_gradient_that_leaps_is_a_spike_too_and_a_fall_is_none():
    watching = guard()
    step = usual(watching)
    assert watching.see(stats(step, 0.01, norm=0.01)) is None
    assert "gradient norm 50" in watching.see(stats(step + 1, 1.0, norm=50.0)).why


def test_without_a_factor_and_before_the_window_is_full_nothing_is_a_spike():
    off, young = guard(spike=None), guard(window=64)
    for watching in (off, young):
        assert watching.see(stats(usual(watching), 1e9)) is None


def test_places_that_are_left_out_are_jumped_over_also_when_windows_touch():
    watching = guard()
    watching.skips = [[16, 32], [24, 48], [48, 56], [80, 88]]
    assert [watching.after(place) for place in (0, 8, 16, 24, 40, 48, 56, 80, 88)] == [0, 8, 56, 56, 56, 56, 56, 88, 88]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("fused", [False, True])
def test_nothing_moves_in_a_step_that_is_not_finite(fused, bad):
    """The fused optimiser is the one of CUDA; it decides on the device."""
    weight = torch.nn.Parameter(torch.ones(5))
    optimiser = torch.optim.AdamW([weight], lr=0.1, fused=fused)

    def step(value):
        weight.grad = torch.full((5,), value)
        row = stats(0, 1.0, norm=abs(value)).row
        guards.move(optimiser, row)

    step(0.5)
    after = weight.detach().clone()
    moments = {name: value.clone() for name, value in optimiser.state[weight].items()}
    step(bad)
    assert torch.equal(weight, after)
    for name, value in moments.items():
        assert torch.equal(optimiser.state[weight][name], value), name
    step(0.5)
    assert (weight < after).all()


# --- in a training ---------------------------------------------------------------------------------------------

SPIKY = {"images": 240, "guard": {"spike": 100.0, "window": 8, "give_up": 2}, "checkpoint_images": 40, "validations": 1}


@pytest.fixture(scope="module")
def spiked(packs, tmp_path_factory):
    """What a training with one spike tells, its files, and what it logged."""
    with pytest.MonkeyPatch.context() as patch, logged() as said:
        poison(patch, {160})
        return *run(tmp_path_factory.mktemp("spiked"), tiny(**SPIKY), packs), said


@contextlib.contextmanager
def logged():
    """The messages of the project's loggers, for a fixture that tests share; one test has ``caplog``."""
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("components")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def poison(monkeypatch, places):
    """Batches at ``places`` are twenty times as bright."""
    true_batch = Feed.batch

    def batch(self, place, then=None):
        found = true_batch(self, place, then)
        return found._replace(image=found.image * 20) if place in places else found

    monkeypatch.setattr(Feed, "batch", batch)


def test_a_spike_goes_back_leaves_its_window_out_and_names_the_images(packs, spiked):
    numbers, files, said = spiked
    assert numbers["images_seen"] == 240 and numbers["windows_skipped"] == 1
    assert [(line["step"], line["skipped_images"]) for line in lines(files) if "skipped_images" in line] == [(104, 64)]
    skipped = json.loads(files["skipped.json"])
    assert [image["place"] for image in skipped] == list(range(104, 168))
    rows, keys = torch.tensor(list(pack.read_split(packs[1], "train"))), pack.read_keys(packs[0])
    shown = rows[order.positions(3, torch.arange(104, 168), len(rows))].tolist()
    assert [(image["row"], image["key"]) for image in skipped] == [(row, keys[row]) for row in shown]
    text = "\n".join(said)
    assert "back to image 80; the 64 images of the window are left out" in text
    assert f"rows {shown[0]} ({keys[shown[0]][:12]})" in text
    assert max(line["loss"] for line in lines(files) if "loss" in line and line["step"] > 64) < 50


@pytest.mark.slow(6)
def test_going_back_is_the_same_wherever_the_training_was_stopped(packs, tmp_path, monkeypatch, spiked):
    poison(monkeypatch, {160})
    true_save, calls = checkpoint.save, []

    def save(*arguments, **options):
        true_save(*arguments, **options)
        calls.append(arguments[1])
        if len(calls) % 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    while True:
        try:
            found = run(tmp_path / "stopped", tiny(**SPIKY), packs)[1]
            break
        except KeyboardInterrupt:
            assert len(calls) < 100
    assert found == spiked[1]


@pytest.mark.slow(4)
def test_it_gives_up_after_so_many_times(packs, tmp_path, monkeypatch):
    poison(monkeypatch, set(range(160, 400, 8)))
    with pytest.raises(UserError, match=r"leapt at image \d+: .* after it went back 2 times: lower"):
        run(tmp_path, tiny(**SPIKY), packs)


def test_a_checkpoint_from_before_the_window_is_always_kept(tmp_path):
    for images in (8, 40, 48, 56, 64):
        checkpoint.save(tmp_path, images, {"images_seen": images}, keep=2, apart=24)
    assert [int(path.name[:12]) for path in sorted(tmp_path.glob("*.pt"))] == [40, 48, 56, 64]
    assert checkpoint.load(tmp_path, most=47)["images_seen"] == 40
    checkpoint.forget(tmp_path, 47)
    assert checkpoint.load(tmp_path)["images_seen"] == 40


# --- checks of the x0 error ------------------------------------------------------------------------------------


def test_patience_ends_the_training_and_keeps_the_weights_of_the_best_check(packs, tmp_path, monkeypatch, caplog):
    scripted, averages, true_check = iter([0.5, 0.3, 0.4, 0.31, 0.1]), [], history.validate
    monkeypatch.setattr(x0_error, "geo", lambda errors: next(scripted))

    def validate(state, *arguments):
        averages.append({name: value.clone() for name, value in state.average.state_dict().items()})
        return true_check(state, *arguments)

    monkeypatch.setattr(history, "validate", validate)
    params = tiny(images=320, validations=10, patience=2)
    with caplog.at_level(logging.INFO):
        numbers, files = run(tmp_path, params, packs)
    assert [line["step"] for line in lines(files) if "x0_error" in line] == [32, 64, 96, 128]
    assert (numbers["images_seen"], numbers["best_images"], numbers["x0_error"]) == (128, 64, 0.3)
    assert "stopped at image 128: the weights are those after 64 images, of the best x0 error, 0.3000" in caplog.text
    written = safetensors.torch.load(files["unet/diffusion_pytorch_model.safetensors"])
    assert all(torch.equal(value, averages[1][name]) for name, value in written.items())
    assert not all(torch.equal(value, averages[3][name]) for name, value in written.items())


@pytest.mark.parametrize("patience", [None, 2])
def test_a_check_that_is_not_finite_is_null_and_never_the_best(packs, tmp_path, monkeypatch, caplog, patience):
    scripted = iter([0.5, float("nan"), float("inf"), float("nan")])
    monkeypatch.setattr(x0_error, "geo", lambda errors: next(scripted))
    params = tiny(images=64, validations=4, patience=patience)
    numbers, files = run(tmp_path, params, packs)
    checks = [line for line in lines(files) if "x0_error" in line]
    wanted = [0.5, None, None, None] if patience is None else [0.5, None, None]
    assert [line["x0_error"] for line in checks] == wanted
    assert checks[1]["x0_error_low"] is checks[1]["x0_error_high"] is None
    assert checks[1]["x0_error/sigma_0.05"] > 0
    assert caplog.text.count("the x0 error is not finite") == len(wanted) - 1
    assert numbers.get("x0_error") == (None if patience is None else 0.5)
    assert numbers.get("best_images") == (None if patience is None else 16)
    assert "unet/diffusion_pytorch_model.safetensors" in files


def test_checks_are_made_in_full_precision_whatever_the_training_takes(packs, tmp_path, monkeypatch):
    seen = []

    def measure(denoise, *arguments, **options):
        def watched(*given):
            with Watched() as watching:
                found = denoise(*given)
            seen.append(watching.kinds)
            return found

        return true_measure(watched, *arguments, **options)

    true_measure = x0_error.measure
    monkeypatch.setattr(x0_error, "measure", measure)
    run(tmp_path, tiny(images=8, validations=1, precision="bf16"), packs)
    assert seen and all(torch.bfloat16 not in kinds for kinds in seen)


class Watched(TorchDispatchMode):
    """The types of all results."""

    def __init__(self):
        super().__init__()
        self.kinds = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.kinds |= {each.dtype for each in torch.utils._pytree.tree_leaves(out) if isinstance(each, torch.Tensor)}
        return out


@pytest.mark.slow
def test_the_best_weights_survive_a_stop(packs, tmp_path, monkeypatch):
    params = tiny(images=160, validations=5, patience=4, checkpoint_images=32)
    monkeypatch.setattr(x0_error, "geo", lambda errors: next(scripted))
    scripted = iter([0.9, 0.3, 0.9, 0.9, 0.9])
    _, plain = run(tmp_path / "plain", params, packs)
    true_save = checkpoint.save

    def save(*arguments, **options):
        true_save(*arguments, **options)
        if arguments[1] == 96:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    scripted = iter([0.9, 0.3, 0.9, 0.9, 0.9])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", params, packs)
    assert run(tmp_path / "stopped", params, packs)[1] == plain
    assert next(scripted, None) is None, "no check was made twice"


def test_a_signal_in_the_middle_of_a_check_saves_and_the_check_is_made_again(packs, tmp_path, monkeypatch):
    params = tiny(validate_images=8, checkpoint_images=1000)
    _, plain = run(tmp_path / "plain", params, packs)
    true_measure, calls = x0_error.measure, []

    def measure(*arguments, **options):
        for part in true_measure(*arguments, **options | {"batch": 64}):
            if not calls:
                os.kill(os.getpid(), signal.SIGTERM)
            calls.append(1)
            yield part

    monkeypatch.setattr(x0_error, "measure", measure)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "stopped", params, packs)
    assert stopped.value.code == 143
    assert len(list((tmp_path / "stopped").rglob("*.pt"))) == 1
    assert run(tmp_path / "stopped", params, packs)[1] == plain
