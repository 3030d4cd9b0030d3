"""Distillation: a student is closer to its teacher than as few steps of its own, and goes on after a stop."""

import dataclasses
import json
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from train_fixtures import COMPACT, UNET, contents, make_pack, tiny

import flows.model.distil
from components.base import processes
from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import consistency
from components.distil import compared
from components.distil import student as distil
from components.distil.params import DistilParams
from components.model import sampling
from components.networks import registry
from components.train import aims, checkpoint, loop
from components.train.stage import train

pytestmark = pytest.mark.numeric

PARAMS = {"seed": 0, "images": 48, "steps": 2, "gap": 0.5, "halvings": 1, "rate": 0.25, "samples": 12}
TRAIN = tiny(checkpoint_images=16, guidance=1.5, steps=12)


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


def run(made, folder, params, train_params=TRAIN):
    pixels, splits, teacher = made
    return distil.distil(
        params, train_params, teacher=teacher, pixels=pixels, splits=splits, student=folder / "student",
        scratch=folder / "scratch",
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(made, folder, wanted()), folder / "student"


@pytest.mark.slow(14)
def test_a_jump_of_a_student_ends_nearer_to_where_its_teacher_goes_than_one_of_the_teacher(made, tmp_path):
    """Its teacher has just learnt the halves."""
    pixels, splits, _ = made
    params = tiny(images=1200, guidance=1.5, steps=12, network=COMPACT, onnx=True, learning_rate=5e-3)
    train(params, pixels=pixels, splits=splits, model=tmp_path / "model", scratch=tmp_path / "scratch")
    few = wanted(images=1200, steps=1, halvings=2, rate=0.5)
    run((pixels, splits, tmp_path / "model"), tmp_path, few, params)
    student, teacher = sampling.load(tmp_path / "student"), sampling.load(tmp_path / "model")
    ids = [0, 1, 2, -1] * 4
    goal = sampling.sample(teacher, ids, seed=9, steps=40).float()
    of_student = (sampling.sample(student, ids, seed=9).float() - goal).square().mean()
    of_teacher = (sampling.sample(teacher, ids, seed=9, steps=1).float() - goal).square().mean()
    assert float(of_student) < 0.6 * float(of_teacher)


def test_the_folder_says_what_it_is(made, whole):
    numbers, folder = whole
    student = sampling.load(folder)
    assert (student.steps, student.sampler, student.guidance) == (2, "consistency", 1.0)
    assert student.sigmas == tuple(numbers["sigmas"])
    assert set(contents(folder)) >= {"stillroom.json", "README.md", "unet/config.json", "history.jsonl"}
    notes = json.loads((folder / "stillroom.json").read_text())
    assert notes["distilled"]["guidance"] == 1.5
    of_teacher = json.loads((made[2] / "stillroom.json").read_text())
    assert notes["objective"] == of_teacher["objective"] and notes["objective"]["kind"] == "v"
    assert "draws in 2 steps" in (folder / "README.md").read_text()


@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow(4)), 2])
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
    assert calls[at:] == [16, 32, 48][at:], "it went on, and did not begin again"
    assert contents(tmp_path / "student") == contents(whole[1])
    assert not any((tmp_path / "scratch").rglob("*.pt")), "a finished distillation leaves no checkpoint"


def test_it_is_stopped_as_a_training_is_and_goes_on(made, whole, tmp_path, monkeypatch):
    """By a signal between two steps: all images are saved, wherever the last checkpoint was."""
    true_step = loop.Training._one

    def step(training):
        true_step(training)
        if training.state.images_seen == 24:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop.Training, "_one", step)
    with pytest.raises(SystemExit, match="143"):
        run(made, tmp_path, wanted())
    (kept,) = (tmp_path / "scratch").rglob("000000000024-*.pt")
    assert kept.is_file()
    run(made, tmp_path, wanted())
    assert contents(tmp_path / "student") == contents(whole[1])


@pytest.mark.slow(14)
def test_two_ranks_make_the_student_that_one_makes(made, whole, tmp_path):
    run(made, tmp_path, wanted(), TRAIN.model_copy(update={"ranks": 2}))
    one, two = (sampling.load(folder).network.state_dict() for folder in (whole[1], tmp_path / "student"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_another_rank_is_told_of_the_tuning(tmp_path):
    tuning = aims.Tuning(gap=0.5, halvings=1, guidance=1.5, autoguidance=1.0, sigmas=(80.0, 1.0), classes=("left",))
    folders = {name: tmp_path / name for name in ("pixels", "splits", "folder", "start")}
    job = loop.Job(params=TRAIN, tuning=tuning, **folders)
    assert loop.Job.told(job.command()[-1]) == job
    assert loop.Job.told(dataclasses.replace(job, tuning=None).command()[-1]).tuning is None


def test_another_seed_gives_other_weights(made, whole, tmp_path):
    for seed in (0, 1):
        run(made, tmp_path / str(seed), wanted(seed=seed, images=8))
    one, two = (contents(tmp_path / str(seed) / "student")[f"unet/{registry.WEIGHTS}"] for seed in (0, 1))
    assert one != two


def test_the_teacher_decides_what_is_trained_and_section_train_how(made):
    train_params = tiny(network=COMPACT, onnx=True, batch=16, betas=[0.8, 0.9], ema_snapshots=4, patience=2)
    found = distil.training(wanted(), train_params, sampling.load(made[2]))
    assert found.network.model_dump(mode="json") == UNET
    assert (found.batch, found.betas, found.images) == (16, (0.8, 0.9), 48)
    assert found.learning_rate == pytest.approx(0.25 * train_params.learning_rate)
    assert found.muon_rate == pytest.approx(0.25 * train_params.muon_rate)
    assert (found.ema_snapshots, found.patience, found.guidance) == (0, None, 1.0)


def test_a_student_is_no_teacher(made, whole, tmp_path):
    with pytest.raises(UserError, match="is a student already"):
        run((*made[:2], whole[1]), tmp_path, wanted())


def key(folders, **changes):
    pixels, splits, teacher = folders
    master, params = sampling.load(teacher), wanted(**changes)
    return distil.key(distil.training(params, TRAIN, master), distil.tuned(params, master), teacher, pixels, splits)


def test_another_version_library_or_gap_does_not_go_on_from_old_checkpoints(made, monkeypatch):
    keys = {key(made), key(made, gap=0.25), key(made, halvings=3), key(made, rate=0.5)}
    for changes in ({"version": 0}, {"libraries": ()}):
        monkeypatch.setattr(distil, "ALGORITHM", dataclasses.replace(distil.ALGORITHM, **changes))
        keys.add(key(made))
    assert len(keys) == 6


def test_a_teacher_of_other_images_is_refused(made, tmp_path):
    pixels, splits = make_pack(tmp_path / "large", side=16)
    with pytest.raises(UserError, match=r"3 x 8 x 8 .*, those of the pack 3 x 16 x 16: distil it on its own data"):
        run((pixels, splits, made[2]), tmp_path, wanted())


def test_classes_go_by_name_and_an_unknown_one_is_none(made, tmp_path):
    pixels, _ = make_pack(tmp_path / "other", classes=("both", "cats", "left"))
    images = tensors.Pixels(pixels)
    found = images.numbered(sampling.load(made[2]).classes)
    assert dict(zip(images.class_ids.tolist(), found.tolist(), strict=True)) == {
        -1: -1, 0: 2, 1: -1, 2: 0
    }  # fmt: skip


def test_a_distillation_that_breaks_down_says_so(made, tmp_path, monkeypatch):
    true_losses = consistency.losses
    monkeypatch.setattr(consistency, "losses", lambda *given: true_losses(*given) * float("nan"))
    with pytest.raises(UserError, match=r"broke down: no finite loss .* lower distil\.rate"):
        run(made, tmp_path, wanted(images=160))


@pytest.mark.slow
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


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(made, tmp_path):
    """The little of a checkout that the command needs."""
    shutil.copytree(made[0], tmp_path / "data/pixels")
    shutil.copytree(made[1], tmp_path / "data/splits")
    (tmp_path / "params.yaml").write_text(json.dumps({"distil": PARAMS, "train": TRAIN.model_dump(mode="json")}))
    return SimpleNamespace(root=tmp_path)


@pytest.mark.slow(4)
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
    params, found = flows.model.distil.params_with(checkout.root, images=16, steps=None)
    assert (params.images, found) == (16, TRAIN)
    with pytest.raises(UserError, match=r"distil\.steps should be less than or equal to 16"):
        flows.model.distil.params_with(checkout.root, images=None, steps=17)


def test_a_dry_run_writes_nothing(made, checkout, capsys):
    flows.model.distil.distil(checkout, str(made[2]), checkout.root / "few", images=None, steps=None, dry_run=True)
    assert "12 steps with guidance 1.5 and autoguidance 1, to 2 without, in 48 images" in capsys.readouterr().out
    assert not (checkout.root / "few").exists()


@pytest.mark.parametrize("changed", ["pixels/header.json", "pixels/classes.i32", "model/unet/config.json"])
def test_a_checkpoint_belongs_to_its_images_labels_and_teacher(made, tmp_path, changed):
    for name, source in zip(("pixels", "splits", "model"), made, strict=True):
        shutil.copytree(source, tmp_path / name)
    folders, path = [tmp_path / name for name in ("pixels", "splits", "model")], tmp_path / changed
    settings, tuning = TRAIN, distil.tuned(wanted(), sampling.load(made[2]))
    pixels, splits, teacher = folders
    before = distil.key(settings, tuning, teacher, pixels, splits)
    path.write_bytes(path.read_bytes() + b" ")
    assert distil.key(settings, tuning, teacher, pixels, splits) != before
