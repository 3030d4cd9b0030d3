"""Starting points: from a folder that Stillroom or diffusers wrote, and a clear line where it does not fit."""

import json
import logging
import shutil

import pytest
import torch
from checkouts import git, make, stillroom
from safetensors.torch import load_file
from train_fixtures import COMPACT, DIT, UNET, contents, make_pack, tiny

from components.base.errors import UserError
from components.diffusion import objective as objectives
from components.diffusion import samplers
from components.diffusion.names import SCHEDULES
from components.model import denoiser, sampling, schedulers
from components.networks import registry
from components.networks.hf import diffusers
from components.train import start
from components.train.stage import key, train

ALL = [(kind, name) for kind, names in SCHEDULES.items() for name in names]
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def run(folder, params, packs, page=None):
    pixels, splits = packs
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch", start=page)
    return folder / "model"


@pytest.fixture(scope="module")
def first(packs, tmp_path_factory):
    """A folder that Stillroom trained."""
    return run(tmp_path_factory.mktemp("first"), tiny(images=16, validations=1), packs)


@pytest.fixture
def page(tmp_path):
    return tmp_path / "data" / "start.json"


def foreign(folder, scheduler=None, **config):
    """A folder that diffusers wrote and that knows nothing of Stillroom."""
    own = {"sample_size": 8, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1,
           "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
           "num_class_embeds": 4}  # fmt: skip
    unet = diffusers.UNet2DModel(**(own | config))
    scheduler = scheduler or diffusers.DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return folder


def test_it_starts_where_the_model_ended(first, packs, page, tmp_path):
    """A learning rate that moves nothing leaves the weights as they came."""
    start.take("models:/denoiser/3", first, page)
    still = {"images": 8, "validations": 1, "learning_rate": 1e-12, "muon_rate": 0.0, "weight_decay": 0.0}
    model = run(tmp_path, tiny(**still, seed=9), packs, page)
    before, after = load_file(first / WEIGHTS), load_file(model / WEIGHTS)
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    notes = json.loads((model / "stillroom.json").read_text())
    assert notes["start"]["model"] == "models:/denoiser/3"
    assert notes["start"]["files"][WEIGHTS]["bytes"] == (first / WEIGHTS).stat().st_size


def test_a_page_that_says_null_and_no_page_are_the_same_training(packs, page, tmp_path):
    start.clear(page)
    params = tiny(images=16, validations=1)
    assert contents(run(tmp_path / "a", params, packs)) == contents(run(tmp_path / "b", params, packs, page))


def test_another_start_is_another_training(first, packs, page, tmp_path):
    start.take("one", first, page)
    one = key(tiny(), *packs, page)
    start.take("two", foreign(tmp_path / "theirs"), page)
    assert len({one, key(tiny(), *packs, page), key(tiny(), *packs)}) == 3


def test_a_folder_that_diffusers_wrote_is_trained_on_with_its_own_widths(packs, page, tmp_path):
    found = start.take("theirs", foreign(tmp_path / "theirs"), page)
    assert (found.objective.kind, found.objective.schedule.name, found.classes) == ("v", "cosine", None)
    model = run(tmp_path, tiny(images=16, validations=1), packs, page)
    assert list(sampling.load(model).network.config.block_out_channels) == [16, 32]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_objective_is_read_from_the_scheduler(kind, name):
    objective = objectives.objective(kind, name)
    scheduler = schedulers.stock(objective)
    assert schedulers.derived({**scheduler.config, "_class_name": type(scheduler).__name__}) == objective


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [(diffusers.DDPMScheduler(), "eps"), (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "flow"),
     (diffusers.EDMEulerScheduler(), "edm"), (diffusers.DDIMScheduler(prediction_type="sample"), "x0")],
)  # fmt: skip
def test_the_objective_is_read_from_other_schedulers_too(scheduler, kind):
    assert schedulers.derived({**scheduler.config, "_class_name": type(scheduler).__name__}).kind == kind


@pytest.mark.parametrize(
    ("scheduler", "kind", "name", "ends", "words"),
    [
        (diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=1348.0), "eps", "exponential", (0.02, 2696.0),
         ["trained and sampled at its own noise levels, 0.02 to 2696"]),
        (diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0), "eps", "exponential", (0.02, 100.0), []),
        (diffusers.EDMEulerScheduler(sigma_max=10.0, sigma_data=1.0), "edm", "log_normal", (0.002, 10.0),
         ["0.002 to 10", "x0 errors are measured at 0.05 to 20, which its noise levels, 0.002 to 10, do not hold"]),
        (diffusers.EDMEulerScheduler(), "edm", "log_normal", (0.002, 80.0), []),
        (diffusers.FlowMatchEulerDiscreteScheduler(), "flow", "logit_normal", None, []),
    ],
)  # fmt: skip
def test_noise_levels_of_the_start_are_obeyed_and_said(tmp_path, page, caplog, scheduler, kind, name, ends, words):
    start.take("theirs", foreign(tmp_path / "theirs", scheduler), page)
    own = objectives.objective(kind, name, 0.3)
    found = start.objective(page, own)
    assert (found.kind, found.schedule.name, found.schedule.ends) == (kind, name, ends)
    assert found.sigma_data == (scheduler.config.sigma_data if kind == "edm" else 0.3)
    assert start.objective(None, own) == own
    with caplog.at_level(logging.INFO):
        start.say_levels(page, found)
        start.say_levels(None, own)
    assert [words in line for words, line in zip(words, caplog.messages, strict=True)] == [True] * len(words)


@pytest.mark.slow(4)
def test_a_start_with_its_own_noise_levels_is_trained_and_drawn_at_them(packs, page, tmp_path, monkeypatch):
    theirs = diffusers.ScoreSdeVeScheduler(sigma_min=0.1, sigma_max=600.0)
    start.take("theirs", foreign(tmp_path / "theirs", theirs), page)
    met = []
    monkeypatch.setattr(
        objectives.Objective, "loss", lambda self, *given, true=objectives.Objective.loss: (
            met.append(given[3]), true(self, *given))[1],
    )  # fmt: skip
    params = tiny(images=256, validations=1, objective="eps", schedule="exponential", learning_rate=1e-6)
    model = run(tmp_path, params, packs, page)
    sigmas = torch.cat(met)
    assert len(sigmas) == 256
    assert 0.2 <= float(sigmas.min()) < 0.25
    assert 1000 < float(sigmas.max()) <= 1200
    loaded = sampling.load(model)
    assert samplers.spaced("log", 4, loaded.objective.schedule)[::3] == pytest.approx([1200, 0.2])
    written = json.loads((model / "scheduler" / "scheduler_config.json").read_text())
    assert (written["sigma_min"], written["sigma_max"]) == (0.1, 600.0)


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [(diffusers.DDPMScheduler(beta_schedule="scaled_linear"), "beta_schedule 'scaled_linear'"),
     (diffusers.DDPMScheduler(num_train_timesteps=500), "num_train_timesteps 500"),
     (diffusers.EDMEulerScheduler(prediction_type="v_prediction"), "prediction_type 'v_prediction', not epsilon"),
     (diffusers.EDMEulerScheduler(sigma_max=0.001), "noise levels of a schedule log_normal from 0.002 to 0.001"),
     (diffusers.DDIMScheduler(rescale_betas_zero_snr=True), "rescale_betas_zero_snr")],
)  # fmt: skip
def test_a_schedule_that_is_none_of_ours_is_named(tmp_path, page, scheduler, wanted):
    with pytest.raises(UserError, match=f"theirs: its scheduler has .*{wanted}"):
        start.take("theirs", foreign(tmp_path / "theirs", scheduler), page)
    assert not page.exists()


@pytest.mark.parametrize(
    ("theirs", "ours", "wanted"),
    [
        ({"sample_size": 16}, {}, r"side in pixels: it has 16, wanted 8 \(resize.side\)"),
        ({"in_channels": 4, "out_channels": 4}, {}, "channels: it has 4, wanted 3"),
        ({"num_class_embeds": None}, {}, "labels: it has none, wanted 4"),
        ({}, {"objective": "eps", "schedule": "linear"}, "it has v on cosine, wanted eps on linear"),
        ({}, {"network": COMPACT, "onnx": True}, "network: it has UNet2DModel, wanted CompactUNet"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(packs, page, tmp_path, theirs, ours, wanted):
    start.take("theirs", foreign(tmp_path / "theirs", **theirs), page)
    with pytest.raises(UserError, match=f"^start theirs: .*{wanted}") as caught:
        run(tmp_path, tiny(**ours), packs, page)
    assert "\n" not in str(caught.value)


def test_other_classes_are_named(first, page, tmp_path):
    start.take("ours", first, page)
    other = make_pack(tmp_path / "other", classes=("left", "right", "neither"))
    with pytest.raises(UserError, match="it has left, right, both, wanted left, right, neither"):
        run(tmp_path, tiny(), other, page)


def test_weights_that_were_changed_after_they_were_taken_are_refused(first, packs, page, tmp_path):
    start.take("ours", first, page)
    weights = page.with_suffix("") / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match=r"not what start\.json says: `dvc checkout`"):
        run(tmp_path, tiny(), packs, page)
    shutil.rmtree(page.with_suffix(""))
    with pytest.raises(UserError, match="missing"):
        run(tmp_path, tiny(), packs, page)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"model": "m", "files": {"../../x": {}}}', '{"model": 1, "files": {}}', '{"model": "m"}']
)
def test_a_page_that_nobody_wrote_is_refused(packs, page, tmp_path, content):
    page.parent.mkdir(parents=True)
    page.write_text(content)
    with pytest.raises(UserError, match=r"start\.json"):
        run(tmp_path, tiny(), packs, page)


def test_pickled_weights_and_folders_of_something_else_are_refused(tmp_path, page):
    folder = foreign(tmp_path / "theirs")
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are not read"):
        start.take("theirs", folder, page)
    with pytest.raises(UserError, match="not a pipeline"):
        start.take("nothing", tmp_path, page)


@pytest.mark.parametrize("values", [UNET, COMPACT, DIT], ids=["unet", "compact", "dit"])
def test_every_network_here_can_be_started_from(page, tmp_path, values):
    params = tiny(network=values, onnx=True)
    network = registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=3)
    denoiser.save(tmp_path / "first", network, params.objective_at(0.5), {"classes": ["left", "right", "both"]})
    found = start.take("first", tmp_path / "first", page)
    assert (type(found.network), found.classes) == (type(network), ("left", "right", "both"))


# --- the command -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_brings_a_folder_under_dvc_and_takes_it_away_again(tmp_path):
    root, theirs = make(tmp_path / "checkout", pictures=1), foreign(tmp_path / "theirs")
    done = stillroom(root, "start", str(theirs))
    assert done.returncode == 0, done.stderr
    assert "training starts from theirs, a UNet2DModel of 0.16 M" in done.stdout and "(v on cosine)" in done.stdout
    assert "?? data/start.dvc" in git(root, "status", "--porcelain").splitlines()
    assert str(tmp_path) not in (root / "data/start.json").read_text() + (root / "data/start.dvc").read_text()
    done = stillroom(root, "start", "none")
    assert (done.returncode, (root / "data/start").exists()) == (0, False), done.stderr
    assert git(root, "status", "--porcelain") == ""
    done = stillroom(root, "start", "models:/denoiser")
    assert done.returncode == 2 and "wanted models:/NAME@ALIAS" in done.stderr


@pytest.mark.slow
def test_the_command_brings_a_registered_version_by_its_number(finished):
    root, _ = finished
    try:
        done = stillroom(root, "start", "models:/denoiser@champion")
        assert done.returncode == 0, done.stderr
        assert json.loads((root / "data/start.json").read_text())["model"] == "models:/denoiser/1"
        assert "would run: train" in stillroom(root, "run", "--dry-run").stdout
    finally:
        assert stillroom(root, "start", "none").returncode == 0
    assert "would run nothing" in stillroom(root, "run", "--dry-run").stdout
