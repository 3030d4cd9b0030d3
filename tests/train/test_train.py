"""Training: the same bytes again, whatever happened in between; nothing that is not finite gets in."""

import dataclasses
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from train_fixtures import AUGMENT, COMPACT, DIT, UNET, contents, latent_pack, make_pack, run, shaped_pack, tiny

from components.base.errors import UserError
from components.diffusion.objective import Objective
from components.model import sampling
from components.samples import pack
from components.train import checkpoint, stage
from components.train.distributed.ranks import Group
from components.train.step import Step

ROOT = Path(__file__).resolve().parents[2]
ALONE = Group(0, 1, torch.device("cpu"))
OFTEN = tiny(checkpoint_images=16)


@pytest.fixture(scope="module")
def whole(packs, tmp_path_factory):
    """Numbers and files of a training that nothing interrupted."""
    return run(tmp_path_factory.mktemp("whole"), tiny(), packs)


# --- what comes out --------------------------------------------------------------------------------------------


def test_it_learns_and_writes_all_that_is_promised(whole, packs):
    numbers, files = whole
    assert {"model_index.json", "stillroom.json", "README.md", "history.jsonl", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"} == set(files)  # fmt: skip
    lines = [json.loads(line) for line in files["history.jsonl"].splitlines()]
    losses, checks = [line for line in lines if "loss" in line], [line for line in lines if "x0_error" in line]
    assert [line["step"] for line in losses] == list(range(8, 65, 8))
    assert {"grad_norm", "learning_rate", "loss/level_4"} <= losses[0].keys()
    assert [line["step"] for line in checks] == [32, 64]
    assert len(checks[0]) == 12
    assert checks[0]["x0_error_low"] < checks[0]["x0_error"] < checks[0]["x0_error_high"]
    assert checks[1]["x0_error"] < checks[0]["x0_error"]
    assert numbers["x0_error"] == checks[1]["x0_error"]
    assert numbers["images_seen"] == 64
    notes = json.loads(files["stillroom.json"])
    measured = pack.read_header(packs[0]).spec.sigma_data
    assert notes == {"format": 2, "objective": {"kind": "v", "schedule": "cosine", "sigma_data": measured},
                     "weighting": "plain", "classes": ["left", "right", "both"], "null_class": 3, "side": 8,
                     "spec": pack.read_header(packs[0]).spec.plain(),
                     "sampler": "dpmpp_2m", "steps": 4,
                     "guidance": 2.0, "autoguidance": 1.0, "images_seen": 64, "train_images": 32}  # fmt: skip


def test_the_same_inputs_give_the_same_bytes_in_another_folder(whole, tmp_path):
    packs = make_pack(tmp_path / "elsewhere")
    _, files = run(tmp_path, tiny(), packs)
    assert files == whole[1]
    assert not any(str(tmp_path).encode() in content for content in files.values())
    assert not list((tmp_path / "scratch").iterdir()), "a finished training leaves no checkpoint"


def test_another_seed_gives_other_weights(whole, packs, tmp_path):
    name = "unet/diffusion_pytorch_model.safetensors"
    assert run(tmp_path, tiny(seed=4), packs)[1][name] != whole[1][name]


def test_half_precision_with_scaled_losses_trains_as_full_precision_does(packs, tmp_path):
    half, full = (run(tmp_path / kind, tiny(images=32, precision=kind), packs)[0] for kind in ("fp16", "fp32"))
    assert half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(full["loss"], rel=1e-2)
    assert half["x0_error"] == pytest.approx(full["x0_error"], rel=1e-2)


def test_images_without_labels_make_a_network_without_labels(tmp_path):
    _, files = run(tmp_path, tiny(images=16), make_pack(tmp_path / "packs", classes=()))
    assert json.loads(files["unet/config.json"])["num_class_embeds"] is None
    assert json.loads(files["stillroom.json"])["null_class"] is None


# --- stops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(whole, packs, tmp_path, monkeypatch, at):
    """Stop right after checkpoint number ``at``, and once more, as a crash would."""
    true_save, calls = checkpoint.save, []

    def save(*arguments, **options):
        true_save(*arguments, **options)
        calls.append(arguments[1])
        if len(calls) in (at, at + 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, OFTEN, packs)
    assert run(tmp_path, OFTEN, packs)[1] == whole[1]
    assert calls == sorted(set(calls)), "nothing was trained twice"


def test_a_damaged_checkpoint_costs_time_but_changes_nothing(whole, packs, tmp_path, monkeypatch, caplog):
    true_save = checkpoint.save

    def save(folder, images_seen, state, **options):
        path = true_save(folder, images_seen, state, **options)
        if images_seen == 48:
            path.write_bytes(path.read_bytes()[:-100])
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, OFTEN, packs)
    monkeypatch.setattr(checkpoint, "save", true_save)
    with caplog.at_level(logging.INFO):
        assert run(tmp_path, OFTEN, packs)[1] == whole[1]
    assert "damaged" in caplog.text
    assert "after 32 images" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow(2))])
def test_a_signal_saves_and_ends_with_its_code(whole, packs, tmp_path, monkeypatch, number):
    true_step, steps = Step.__call__, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), number)
        return true_step(*arguments)

    monkeypatch.setattr(Step, "__call__", step)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, tiny(), packs)
    assert stopped.value.code == 128 + number
    assert len(steps) == 3
    assert run(tmp_path, tiny(), packs)[1] == whole[1]
    assert len(steps) == 8, "it went on from where it stopped"


def test_other_parameters_data_or_labels_start_afresh(packs, tmp_path):
    other = make_pack(tmp_path / "a", rows=60)
    renamed = make_pack(tmp_path / "b", classes=("left", "right", "all"))
    keys = {stage.key(tiny(), *packs), stage.key(tiny(seed=9), *packs), stage.key(tiny(), *other),
            stage.key(tiny(), *renamed)}  # fmt: skip
    assert len(keys) == 4
    assert stage.key(tiny(), *packs) == stage.key(tiny(), *make_pack(tmp_path / "c"))


def test_another_version_or_library_starts_afresh(packs, monkeypatch):
    keys = {stage.key(tiny(), *packs)}
    for changes in ({"version": 0}, {"libraries": ("torch",)}):
        monkeypatch.setattr(stage, "ALGORITHM", dataclasses.replace(stage.ALGORITHM, **changes))
        keys.add(stage.key(tiny(), *packs))
    assert len(keys) == 3


# --- what is not finite ----------------------------------------------------------------------------------------


def break_loss(monkeypatch, steps):
    true_loss, calls = Objective.loss, []

    def loss(*arguments):
        calls.append(1)
        found = true_loss(*arguments)
        return found * float("nan") if len(calls) in steps else found

    monkeypatch.setattr(Objective, "loss", loss)


def test_a_step_that_is_not_finite_never_reaches_the_weights(packs, tmp_path, monkeypatch, caplog):
    break_loss(monkeypatch, {3, 4})
    _, files = run(tmp_path, tiny(), packs)
    assert "not finite" in caplog.text
    lines = [json.loads(line) for line in files["history.jsonl"].splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [8, 16, 40, 48, 56, 64]
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_many_in_a_row_end_it_with_one_line(packs, tmp_path, monkeypatch):
    break_loss(monkeypatch, range(2, 100))
    with pytest.raises(UserError, match=r"no finite loss or gradient in 10 steps.*learning_rate"):
        run(tmp_path, tiny(images=160), packs)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"network": UNET | {"widths": [32] * 5}}, "a side that 16 divides, not 8"),
        ({"network": UNET | {"widths": [40]}}, "40, at 8 pixels, is not a multiple of 32"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(packs, tmp_path, changes, wanted):
    with pytest.raises(UserError, match=wanted):
        run(tmp_path, tiny(**changes), packs)


# --- real processes --------------------------------------------------------------------------------------------

_CHILD = """
import sys, json
from pathlib import Path
from components.train.params import TrainParams
from components.train.stage import train
pixels, splits, folder = map(Path, sys.argv[1:4])
params = TrainParams.model_validate_json(sys.argv[4])
train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
"""


def child(folder, params, packs):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    arguments = [*map(str, packs), str(folder), params.model_dump_json()]
    return subprocess.Popen([sys.executable, "-c", _CHILD, *arguments], env=environment, stderr=subprocess.PIPE)


def alive(folder):
    """Processes that name ``folder`` in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.slow(80)
def test_kill_9_at_any_moment_costs_nothing_but_time(packs, tmp_path):
    """With real processes, as dvc.yaml starts them; test_never_lost.py has many more moments, and one rank."""
    params = tiny(images=640, ranks=2, network=COMPACT, onnx=True, checkpoint_images=80, validations=1)
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    first = child(plain, params, packs)
    process = child(killed, params, packs)
    wait_for(lambda: list(killed.rglob("*.pt")))
    time.sleep(random.random() * 0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not alive(killed), 10)  # no rank outlives the one that started it
    assert not (killed / "model").exists(), "killed too late to show anything"
    last = child(killed, params, packs)
    assert (first.wait(), last.wait()) == (0, 0), last.stderr.read().decode()[-2000:]
    assert contents(killed / "model") == contents(plain / "model")


@pytest.mark.slow(35)
def test_two_ranks_stop_together_and_learn_what_one_learns(packs, tmp_path):
    params = tiny(images=400, ranks=2, checkpoint_images=100000, validations=1)
    process = child(tmp_path, params, packs)
    wait_for(lambda: list(tmp_path.rglob(".ranks.beside-*")))
    wait_for(lambda: len(alive(tmp_path)) == 2)
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    assert time.monotonic() - began < 60
    if code != 0:  # a fast machine may be done by then
        assert code in (143, -signal.SIGTERM)
        wait_for(lambda: not alive(tmp_path))
    _, two = run(tmp_path, params, packs)
    _, one = run(tmp_path / "one", tiny(images=400, checkpoint_images=100000, validations=1), packs)
    first, second = ([json.loads(line) for line in files["history.jsonl"].splitlines()][:10] for files in (one, two))
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)


@pytest.mark.slow(20)
def test_a_rank_that_dies_is_named_and_the_next_run_goes_on(packs, tmp_path):
    params = tiny(images=16000, ranks=2, network=COMPACT, onnx=True, checkpoint_images=80, validations=1)
    process = child(tmp_path, params, packs)
    wait_for(lambda: list(tmp_path.rglob("*.pt")))
    (other,) = [number for number in alive(tmp_path) if int(number) != process.pid]
    os.kill(int(other), signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1  # the bare child of this test has no main() that makes one line of it
    assert b"UserError: training lost rank 1 with code -9" in stderr
    assert list(tmp_path.rglob("*.pt"))


_BARE = """
import sys
import components.train.stage, components.evaluate.stage
loaded = {"pandas", "PIL", "yaml", "torchvision", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
for name in ("pandas", "torchvision", "pyarrow", "mlflow", "dvc", "prefect", "flows", "ruamel"):
    sys.modules[name] = None
"""


@pytest.mark.slow(10)
def test_it_trains_without_the_data_side_and_the_glue(packs, tmp_path):
    """On a GPU worker there may be torch and diffusers only."""
    arguments = [*map(str, packs), str(tmp_path), tiny(images=8, validations=1).model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", _BARE + _CHILD, *arguments], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert (tmp_path / "model/unet/config.json").exists()


@pytest.mark.parametrize(("shape", "network"), [
    ((3, 24, 32), {"kind": "unet", "widths": [8, 32, 32], "layers_per_block": 1}),
    ((1, 8, 16), {"kind": "compact", "widths": [8, 32], "layers": 1, "fold": 1, "skip_sigma": 0.1}),
    pytest.param((1, 8, 8), UNET, marks=pytest.mark.slow(4)),
], ids=["3 x 24 x 32", "compact, 1 x 8 x 16", "1 x 8 x 8"])  # fmt: skip
@pytest.mark.parametrize("loaders", [0, 1])
def test_images_of_any_shape_are_fed_trained_on_and_drawn(tmp_path, shape, network, loaders):
    pixels, splits = shaped_pack(tmp_path, shape)
    onnx = network["kind"] == "compact"
    params = tiny(network=network, images=24, validations=1, onnx=onnx, loaders=loaders,
                  augment=AUGMENT | {"horizontal_flip": 0.5, "rotate": 10.0})  # fmt: skip
    metrics, _ = run(tmp_path, params, (pixels, splits))
    assert metrics["images_seen"] == 24
    assert metrics["x0_error"] > 0
    model = sampling.load(tmp_path / "model")
    assert model.spec == pack.read_header(pixels).spec
    assert sampling.sample(model, [0, -1], seed=0).shape == (2, *shape[1:], shape[0])


def test_samples_that_are_no_images_are_trained_on_and_the_card_says_what_they_are(tmp_path):
    packs = latent_pack(tmp_path)
    params = tiny(images=24, validations=1, network=COMPACT, onnx=True)
    metrics, files = run(tmp_path, params, packs)
    ahead, others = run(tmp_path / "ahead", params.model_copy(update={"loaders": 1}), packs)
    assert metrics == ahead and metrics["x0_error"] > 0 and files == others
    card = files["README.md"].decode()
    assert "# A denoiser for samples of kind latent, each 4 x 8 x 12 numbers" in card
    assert "samples = clean  # stored numbers * 0.18 + 0.1  # 4 x 4 x 8 x 12" in card
    assert "MLmodel" not in files and "mlflow" not in card
    assert "127.5" not in card and "pixels" not in card and "image-generation" not in card
    model = sampling.load(tmp_path / "model")
    assert model.spec == pack.read_header(packs[0]).spec and model.objective.sigma_data == model.spec.sigma_data
    with pytest.raises(UserError, match="this draws images only, not kind latent"):
        sampling.sample(model, [0], seed=0)
    with pytest.raises(UserError, match=r"train\.augment: of latents horizontal_flip alone is possible"):
        run(tmp_path / "augmented", tiny(images=24, augment=AUGMENT | {"rotate": 10.0}), packs)


def test_a_transformer_of_squares_says_so(tmp_path):
    with pytest.raises(UserError, match="kind dit: needs square images, not 16 x 8 pixels"):
        run(tmp_path, tiny(network=DIT), shaped_pack(tmp_path, (3, 8, 16)))
