"""Evaluating a model of latents: its decoded pictures against real ones, its x0 errors among latents."""

import dataclasses
import json
import shutil

import pytest
import torch
from evaluate_fixtures import PARAMS
from latent_fixtures import encoded, latent_state, make_autoencoder
from train_fixtures import UNET, contents, make_pack, tiny

from components.base import files
from components.base.errors import UserError
from components.evaluate import measure, stage
from components.model import sampling
from components.networks import autoencoder
from components.register import evidence
from components.samples import drawn, latents
from components.train.stage import train


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    data = latent_state(folder)
    train(tiny(space="latents", network=UNET), **data, model=folder / "model", scratch=folder / "scratch")
    return {**data, "model": folder / "model"}


def test_it_is_scored_as_any_other(state, tmp_path, alone):
    numbers = stage.evaluate(PARAMS, **state, evaluation=tmp_path / "one")
    found = json.loads((tmp_path / "one/samples.json").read_text())
    assert found["side"] == 8 and found["channels"] == 3, "decoded pictures"
    assert numbers["x0_error"] > 0 and numbers["kid_efficientnet_lite0"]
    assert len(drawn.samples(tmp_path / "one")) == PARAMS.samples
    stage.evaluate(PARAMS, **state, evaluation=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def errors(state, model, **changes):
    given = {name: state[name] for name in ("pixels", "latents")} | changes
    return stage.x0_errors(model, given["pixels"], [40, 41, 43], seed=0, quiet=True, latents=given["latents"])


def test_errors_are_those_of_latents_whatever_images_a_model_normalised_them_by(state, tmp_path, alone):
    own = errors(state, state["model"])
    assert own.shape == (3, 8) and bool((own > 0).all())
    # A model of another day, that is the same but for what its latents were normalised by.
    other = shutil.copytree(state["model"], tmp_path / "other")
    made = latents.held(state["latents"]).autoencoder
    std, mean = tuple(1.001 * each for each in made.std), tuple(each + 0.001 for each in made.mean)
    vae = state["latents"].parent / "autoencoder"
    autoencoder.normalised(vae, mean, std, other / "vae")
    weights = files.sha256(other / "vae" / autoencoder.WEIGHTS)
    notes = files.read_json_object(other / "stillroom.json", "")
    notes["autoencoder"] = dataclasses.replace(made, mean=mean, std=std, weights=weights).plain()
    (other / "stillroom.json").write_text(json.dumps(notes))
    assert torch.allclose(errors(state, other), own, rtol=0.05) and not torch.equal(errors(state, other), own)
    # Far from it the network meets what it has never seen, and what it answers is still compared in one space.
    denoise = measure._across(sampling.load(other), made)
    noisy, sigma = torch.randn(2, 4, 4, 4), torch.full((2,), 1e-4)
    label = {"label": torch.tensor([0, 1])}
    assert torch.allclose(denoise(noisy, sigma, label), noisy, atol=1e-2), "almost without noise it says what it got"


def test_latents_of_another_autoencoder_are_one_line(state, tmp_path, alone):
    paths = {name: state[name] for name in ("pixels", "splits")}
    encoded(tmp_path, make_autoencoder(tmp_path / "second", seed=1), **paths)
    words = r"trained on latents of the autoencoder \w{12}, and data/latents holds latents of the autoencoder \w{12}: "
    with pytest.raises(UserError, match=words):
        errors(state, state["model"], latents=tmp_path / "latents")
    for folder in (None, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"and data/latents holds nothing, for encode\.latents is null: train it"):
            errors(state, state["model"], latents=folder)


def test_pictures_of_another_size_are_one_line(state, tmp_path, alone):
    pixels, splits = make_pack(tmp_path, side=16)
    with pytest.raises(UserError, match=r"its samples are 3 x 8 x 8 \(channels first\), those of the pack 3 x 16"):
        stage.evaluate(PARAMS, pixels=pixels, splits=splits, model=state["model"], evaluation=tmp_path / "one")


def test_models_of_different_spaces_are_not_compared(state, tmp_path):
    pixels = tmp_path / "pixels"
    pixels.mkdir()
    (pixels / "stillroom.json").write_text("{}")
    evidence.same_space(state["model"], state["model"])
    evidence.same_space(pixels, pixels)
    with pytest.raises(UserError, match=r"^it was trained on latents of the autoencoder \w{12}, the champion on pix"):
        evidence.same_space(state["model"], pixels)
