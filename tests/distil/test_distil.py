"""Distillation: a student aims where its teacher goes, is closer to it than as few steps of its own, and resumes."""

import dataclasses
import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from train_fixtures import contents, make_pack, tiny

import flows.model.distil
from components.base import processes
from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import objective as objectives
from components.diffusion.schedule import schedule
from components.distil import compared
from components.distil import student as distil
from components.distil.params import DistilParams
from components.evaluate import measure
from components.model import sampling
from components.networks import registry
from components.train import checkpoint
from components.train.stage import train

pytestmark = pytest.mark.numeric

PARAMS = {"seed": 0, "images": 48, "batch": 8, "steps": 2, "substeps": 2, "learning_rate": 5e-4, "gradient_clip": 1.0,
          "ema_half_life": 0.06, "checkpoint_images": 16, "samples": 12}  # fmt: skip


def wanted(**changes):
    return DistilParams(**PARAMS | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(pixels, splits, teacher) of a training that has only begun."""
    folder = tmp_path_factory.mktemp("made")
    pixels, splits = make_pack(folder)
    params = tiny(images=16, guidance=1.5, steps=12)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return pixels, splits, folder / "model"


def run(made, folder, params):
    pixels, splits, teacher = made
    return distil.distil(
        params, teacher=teacher, pixels=pixels, splits=splits, student=folder / "student", scratch=folder / "scratch"
    )


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(made, folder, wanted()), folder / "student"


def test_one_step_to_the_aim_is_the_way_of_the_teacher():
    """Gaussian pixels: along the flow, x - mean goes as sqrt(std**2 + sigma**2)."""
    objective, mean, std = objectives.objective("v", "cosine"), 0.3, 0.5

    def network(entry, timestep, class_labels=None):
        sigma = objective.schedule.sigma_of(timestep).view(-1, 1, 1, 1)
        x = entry / objective.c_in(sigma)
        clean = (mean * sigma**2 + std**2 * x) / (std**2 + sigma**2)
        return SimpleNamespace(sample=(clean - objective.c_skip(sigma) * x) / objective.c_out(sigma))

    master = SimpleNamespace(objective=objective, network=network, guidance=1.0)
    sigma, following = torch.tensor([20.0, 4.0, 0.5]), torch.tensor([4.0, 0.5, 0.02])
    x = mean + sigma.view(-1, 1, 1, 1) * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = distil.target(master, x, sigma, following, {}, 64)
    share = (following / sigma).view(-1, 1, 1, 1)
    moved = torch.lerp(found, x, share)
    ratio = ((std**2 + following**2) / (std**2 + sigma**2)).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, mean + (x - mean) * ratio, rtol=5e-3, atol=5e-3)


def test_levels_end_where_the_schedule_does_and_the_student_answers_at_all_but_the_last():
    ladder = distil.noise_levels(4, schedule("cosine"))
    assert len(ladder) == 5
    assert ladder[0] == pytest.approx(80)
    assert ladder[-1] == pytest.approx(0.02)


@pytest.mark.slow(18)
def test_a_student_is_closer_to_its_teacher_than_as_few_steps_of_the_teacher(made, tmp_path):
    """Its teacher has just learnt the halves."""
    pixels, splits, _ = made
    params = tiny(images=480, guidance=1.5, steps=12)
    train(params, pixels=pixels, splits=splits, model=tmp_path / "model", scratch=tmp_path / "scratch")
    run((pixels, splits, tmp_path / "model"), tmp_path, wanted(images=320, substeps=8, checkpoint_images=400))
    student, teacher = sampling.load(tmp_path / "student"), sampling.load(tmp_path / "model")
    ids = [0, 1, 2, -1] * 4
    goal = sampling.sample(teacher, ids, seed=9, steps=40).float()
    of_student = (sampling.sample(student, ids, seed=9).float() - goal).square().mean()
    few = sampling.Denoiser(**{**vars(teacher), "sigmas": student.sigmas, "steps": 2, "sampler": "euler"})
    of_teacher = (sampling.sample(few, ids, seed=9).float() - goal).square().mean()
    assert float(of_student) < 0.8 * float(of_teacher)


def test_the_folder_says_what_it_is(made, whole):
    numbers, folder = whole
    student = sampling.load(folder)
    assert (student.steps, student.sampler, student.guidance) == (2, "euler", 1.0)
    assert student.sigmas == tuple(numbers["sigmas"])
    assert set(contents(folder)) >= {"stillroom.json", "README.md", "unet/config.json"}
    notes = json.loads((folder / "stillroom.json").read_text())
    assert notes["distilled"]["guidance"] == 1.5
    of_teacher = json.loads((made[2] / "stillroom.json").read_text())
    assert notes["objective"] == of_teacher["objective"] and notes["objective"]["kind"] == "v"
    assert "draws in 2 steps" in (folder / "README.md").read_text()


@pytest.mark.parametrize("at", [1, 2])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(made, whole, tmp_path, monkeypatch, at):
    true_save, calls = checkpoint.save, []

    def save(*arguments, **more):
        true_save(*arguments, **more)
        calls.append(arguments[1])
        if len(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path, wanted())
    assert not (tmp_path / "student").exists()
    run(made, tmp_path, wanted())
    assert calls[:at] == [16, 32][:at]
    assert calls[at:] == [16, 32][at:], "it went on, and did not begin again"
    assert contents(tmp_path / "student") == contents(whole[1])
    assert not any((tmp_path / "scratch").rglob("*.pt")), "a finished distillation leaves no checkpoint"


def test_another_seed_gives_other_weights(made, whole, tmp_path):
    for seed in (0, 1):
        run(made, tmp_path / str(seed), wanted(seed=seed, images=8))
    one, two = (contents(tmp_path / str(seed) / "student")[f"unet/{registry.WEIGHTS}"] for seed in (0, 1))
    assert one != two


def test_another_version_or_library_does_not_go_on_from_old_checkpoints(made, monkeypatch):
    pixels, splits, teacher = made
    keys = {distil.key(wanted(), teacher, pixels, splits)}
    for changes in ({"version": 0}, {"libraries": ()}):
        monkeypatch.setattr(distil, "ALGORITHM", dataclasses.replace(distil.ALGORITHM, **changes))
        keys.add(distil.key(wanted(), teacher, pixels, splits))
    assert len(keys) == 3


def test_a_teacher_of_other_images_is_refused(made, tmp_path):
    pixels, splits = make_pack(tmp_path / "large", side=16)
    with pytest.raises(UserError, match=r"3 x 8 x 8 .*, those of the pack 3 x 16 x 16: distil it on its own data"):
        run((pixels, splits, made[2]), tmp_path, wanted())


def test_classes_go_by_name_and_an_unknown_one_is_none(made, tmp_path):
    pixels, _ = make_pack(tmp_path / "other", classes=("both", "cats", "left"))
    images = tensors.Pixels(pixels)
    found = measure.known_classes(sampling.load(made[2]), images)
    assert dict(zip(images.class_ids.tolist(), found.tolist(), strict=True)) == {
        -1: -1, 0: 2, 1: -1, 2: 0
    }  # fmt: skip


def test_a_distillation_that_breaks_down_says_so(made, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "target", lambda _, x, *rest: x * math.nan)
    with pytest.raises(UserError, match=r"broke down at image 0: lower distil\.learning_rate"):
        run(made, tmp_path, wanted())


def test_the_comparison_holds_both_with_intervals(made, whole, monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 1)
    pixels, splits, teacher = made
    found = compared.compared(teacher, whole[1], pixels=pixels, splits=splits, samples=12, seed=0)
    for name in ("teacher", "student"):
        for score in ("kid_efficientnet_lite0", "x0_error"):
            assert found[name][score]["low"] <= found[name][score]["value"] <= found[name][score]["high"]
    assert found["kid_lost"]["value"] == pytest.approx(
        found["student"]["kid_efficientnet_lite0"]["value"] - found["teacher"]["kid_efficientnet_lite0"]["value"]
    )
    assert any("KID lost" in line for line in compared.lines(found))
    assert found["hurried"]["steps"] == found["student"]["steps"] < found["teacher"]["steps"]
    assert found["hurried"]["kid_efficientnet_lite0"]["value"] != found["teacher"]["kid_efficientnet_lite0"]["value"]
    same = compared.compared(whole[1], whole[1], pixels=pixels, splits=splits, samples=12, seed=0)
    assert same["kid_lost"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "hurried" not in same


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(made, tmp_path):
    """The little of a checkout that the command needs."""
    shutil.copytree(made[0], tmp_path / "data/pixels")
    shutil.copytree(made[1], tmp_path / "data/splits")
    (tmp_path / "params.yaml").write_text(json.dumps({"distil": PARAMS}))
    return SimpleNamespace(root=tmp_path)


def test_the_command_writes_a_folder_with_its_scores(made, checkout, monkeypatch, capsys):
    monkeypatch.setattr(processes, "cores", lambda: 1)
    out = checkout.root / "few"
    flows.model.distil.distil(checkout, str(made[2]), out, images=16, steps=3, dry_run=False)
    report = json.loads((out / "distilled.json").read_text())
    assert (report["student"]["steps"], report["images_seen"], len(report["sigmas"])) == (3, 16, 3)
    assert str(checkout.root) not in (out / "distilled.json").read_text()
    assert "KID lost" in capsys.readouterr().out
    assert sampling.sample(out, [0], seed=0).shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda root: shutil.rmtree(root / "data/pixels"), "data/pixels: not found"),
        (lambda root: (root / "few").mkdir(), "exists and is not a model folder"),
        (lambda root: (root / "params.yaml").write_text("distil: {}"), "distil.seed is missing"),
        (lambda root: (root / "params.yaml").write_text("{}"), "distil.seed is missing"),
    ],
)
def test_a_wrong_wish_is_one_line(made, checkout, change, line):
    change(checkout.root)
    with pytest.raises(UserError, match=line):
        flows.model.distil.distil(checkout, str(made[2]), checkout.root / "few", images=None, steps=None, dry_run=False)


def test_wishes_on_the_line_are_checked_like_params_yaml(checkout):
    assert flows.model.distil.params_with(checkout.root, images=16, steps=None).images == 16
    with pytest.raises(UserError, match="images 4 is less than one batch of 8"):
        flows.model.distil.params_with(checkout.root, images=4, steps=None)


def test_a_dry_run_writes_nothing(made, checkout, capsys):
    flows.model.distil.distil(checkout, str(made[2]), checkout.root / "few", images=None, steps=None, dry_run=True)
    assert "12 steps with guidance 1.5, to 2 without, in 48 images" in capsys.readouterr().out
    assert not (checkout.root / "few").exists()


@pytest.mark.parametrize("changed", ["pixels/header.json", "pixels/classes.i32", "model/unet/config.json"])
def test_a_checkpoint_belongs_to_its_images_labels_and_teacher(made, tmp_path, changed):
    for name, source in zip(("pixels", "splits", "model"), made, strict=True):
        shutil.copytree(source, tmp_path / name)

    def key():
        return distil.key(wanted(), tmp_path / "model", tmp_path / "pixels", tmp_path / "splits")

    before = key()
    (tmp_path / changed).write_bytes((tmp_path / changed).read_bytes() + b" ")
    assert key() != before
