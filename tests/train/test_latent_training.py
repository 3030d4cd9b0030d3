"""Training on latents: the same loop, decoded where it is drawn, handed out with its autoencoder."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from latent_fixtures import encoded, latent_state, make_autoencoder
from PIL import Image
from text_fixtures import told_pack
from train_fixtures import AUGMENT, COMPACT, UNET, by_a_stranger, contents, make_pack, stop_at_second_checkpoint, tiny

from components.base import config, files
from components.base.errors import UserError
from components.dataset import tensors
from components.distil import student
from components.distil.params import DistilParams
from components.model import prompts, sampling
from components.networks import autoencoder
from components.samples import latents
from components.train import averages, stage
from components.train import start as beginning
from flows.model import begin, sample

ROOT = Path(__file__).resolve().parents[2]
LATENT = {"space": "latents", "network": UNET, "checkpoint_images": 16, "steps": 6, "guidance": 1.0, "sheet": 4}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return latent_state(tmp_path_factory.mktemp("state"), classes=())


def run(folder, params, state):
    return stage.train(params, **state, model=folder / "model", scratch=folder / "scratch")


@pytest.fixture(scope="module")
def whole(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, tiny(**LATENT, onnx=True, ema_snapshots=2), state)
    assert list((folder / "scratch/samples").glob("*.png")), "a sheet shows decoded pictures"
    return folder / "model"


def test_what_is_drawn_are_the_decoded_latents_that_the_network_draws(whole, state):
    model = sampling.load(whole)
    assert model.spec.kind == "latent" and model.spec.shape == (4, 4, 4) and model.pictures.shape == (3, 8, 8)
    assert model.autoencoder == latents.held(state["latents"]).autoencoder
    drawn = sampling.sample(model, [-1] * 3, seed=1)
    assert drawn.shape == (3, 8, 8, 3) and drawn.dtype == torch.uint8
    planned = sampling.plan(model)
    free = sampling._denoise(model, planned, [-1] * 3, 1, range(3), "auto", lambda *_: None, (4, 4, 4),
                             sampling.Told(None, None))  # fmt: skip
    vae = autoencoder.load(state["latents"] / "vae")
    wanted = torch.cat([tensors.to_pixels(vae.decode(each[None])) for each in free])
    assert torch.equal(drawn, wanted)
    assert torch.equal(sampling.sample(model, [-1], seed=1, start=2), drawn[2:]), "whatever is drawn beside it"
    frames, _ = sampling.film(model, [-1], seed=1, frames=3)
    assert frames.shape == (1, 3, 8, 8, 3) and torch.equal(frames[0, -1], drawn[0])


def test_a_unet_draws_any_size_that_the_autoencoder_and_it_take_together(state, tmp_path):
    run(tmp_path, tiny(**{**LATENT, "images": 16, "network": {**UNET, "widths": [32, 32]}}), state)
    model = sampling.load(tmp_path / "model")
    assert model.multiple == 4, "two pixels to a place of a latent, and two places to one of the network"
    assert sampling.sample(model, [-1], seed=0, shape=(3, 12, 8)).shape == (1, 12, 8, 3)
    with pytest.raises(UserError, match="size 8 × 10: this model draws pictures whose sides are multiples of 4 pixels"):
        sampling.sample(model, [-1], seed=0, shape=(3, 10, 8))


@pytest.mark.parametrize("part", [pytest.param(0, marks=pytest.mark.slow(5)), 1], ids=["torch", "numpy"])
def test_the_lines_of_the_card_draw_pictures(whole, tmp_path, part):
    blocks = (whole / "README.md").read_text().split("```python\n")[1:]
    code = blocks[part].split("```")[0].replace("FOLDER", str(whole)) + "\nprint(tuple(images.shape), images.dtype)"
    assert by_a_stranger(code, tmp_path) == [f"(4, 3, 8, 8) {['torch.uint8', 'uint8'][part]}"]


def test_both_engines_draw_the_same_picture_of_latents(whole):
    drawn = [sampling.sample(sampling.load(whole, engine=engine), [-1], seed=3, precision="fp32").int()
             for engine in ("torch", "onnx")]  # fmt: skip
    assert (drawn[0] - drawn[1]).abs().max() <= 1


def test_a_training_on_latents_goes_on_bit_for_bit(whole, state, tmp_path, monkeypatch):
    stop_at_second_checkpoint(monkeypatch)
    params = tiny(**LATENT, onnx=True, ema_snapshots=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, params, state)
    run(tmp_path, params, state)
    assert contents(tmp_path / "model") == contents(whole)


def test_the_command_draws_pictures_and_takes_their_size_in_pixels(whole, tmp_path):
    wanted = dict.fromkeys(("sampler", "steps", "guidance", "autoguidance", "spacing", "eta"))
    outputs = sample.Outputs(sheet=tmp_path / "sheet.png", film=tmp_path / "film.png", each=tmp_path / "each")
    given = sample.Request(model=str(whole), num=2, labels=(), seed=5, engine="torch", scale=1, size="12x8", **wanted)
    sample.sample(None, given, outputs, dry_run=False)
    assert Image.open(tmp_path / "each/seed5-00001.png").size == (12, 8) and outputs.film.is_file()
    with pytest.raises(UserError, match="--size 9x8: this model's network draws multiples of 2 pixels"):
        sample.sample(None, dataclasses.replace(given, size="9x8"), outputs, dry_run=False)


@pytest.mark.slow(6)
def test_captions_tell_of_latents_as_of_pictures(tmp_path):
    data = told_pack(tmp_path)
    pixels, splits = (data[name] for name in ("pixels", "splits"))
    given = {"mirrored": False, "pixels": pixels, "splits": splits}
    encoded(tmp_path / "latent", make_autoencoder(tmp_path / "vae"), **given)
    wishes = {**LATENT, "network": COMPACT, "onnx": True, "conditions": ["text"], "images": 32}
    run(tmp_path, tiny(**wishes), {**data, "latents": tmp_path / "latent/latents"})
    model = sampling.load(tmp_path / "model")
    said = prompts.said(tmp_path / "model", model.text, ["dark left side"])
    assert sampling.sample(model, [-1], seed=0, text=said, guidance=3.0).shape == (1, 8, 8, 3)


@pytest.mark.slow(12)
def test_two_ranks_learn_latents_together(state, tmp_path):
    numbers = run(tmp_path, tiny(**{**LATENT, "ranks": 2, "images": 32, "onnx": True}), state)
    assert numbers["images_seen"] == 32 and sampling.sample(tmp_path / "model", [-1], seed=0).shape == (1, 8, 8, 3)


def test_an_average_of_another_length_brings_the_autoencoder_along(whole, tmp_path):
    averages.remake(whole, 0.05, tmp_path / "ema")
    assert sampling.sample(tmp_path / "ema", [-1], seed=0).shape == (1, 8, 8, 3)


@pytest.mark.slow(4)
def test_the_compact_network_learns_latents_with_labels(tmp_path):
    state = latent_state(tmp_path, "AutoencoderTiny")
    run(tmp_path, tiny(**{**LATENT, "network": COMPACT, "onnx": True, "images": 16}), state)
    assert not (tmp_path / "model/model_index.json").exists() and not (tmp_path / "model/MLmodel").exists()
    model = sampling.load(tmp_path / "model", engine="onnx")
    assert model.classes == ("left", "right", "both")
    assert sampling.sample(model, [0, -1], seed=0).shape == (2, 8, 8, 3)
    assert (tmp_path / "model/vae/config.json").is_file() and (tmp_path / "model/onnx/decoder.onnx").is_file()


# --- what is asked for and cannot be -----------------------------------------------------------------------------


def test_latents_that_nobody_made_are_one_line(tmp_path):
    pixels, splits = make_pack(tmp_path)
    (tmp_path / "latents").mkdir()
    latents.write(tmp_path / "latents", None, pixels)
    for folder in (tmp_path / "latents", None):
        with pytest.raises(UserError, match=r"^train.space latents: but encode.latents is null, or stage 'encode'"):
            run(tmp_path, tiny(**LATENT), {"pixels": pixels, "splits": splits, "latents": folder})


@pytest.mark.parametrize(("wish", "said"), [
    ({"rotate": 5.0}, r"^train.augment: of latents horizontal_flip alone is possible: set all else of it to 0"),
    ({"rotate": 5.0, "horizontal_flip": 0.5}, r"^train.augment: of latents horizontal_flip alone is possible"),
    ({"horizontal_flip": 0.5}, r"^train.augment.horizontal_flip: mirrored pictures have other latents, which are not"),
])  # fmt: skip
def test_augmentation_of_latents_is_one_line(state, tmp_path, wish, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path, tiny(**LATENT, augment={**AUGMENT, **wish}), state)


def test_a_start_of_another_space_is_one_line(whole, state, tmp_path):
    page = tmp_path / "start.json"
    beginning.take("mine", whole, page)
    with pytest.raises(UserError, match=r"^start mine: trained on latents of the autoencoder \w{12}, the data are pix"):
        run(tmp_path, tiny(images=16), {**state, "start": page})
    run(tmp_path, tiny(**{**LATENT, "images": 16}), {**state, "start": page})
    paths = {name: state[name] for name in ("pixels", "splits")}
    encoded(tmp_path, make_autoencoder(tmp_path / "second", seed=1), **paths)
    with pytest.raises(UserError, match=r"the data are latents of the autoencoder \w{12}: change train.space"):
        run(tmp_path, tiny(**LATENT), {**state, "latents": tmp_path / "latents", "start": page})


def test_a_student_of_latents_is_one_line_and_one_of_pixels_stays_one(whole, tmp_path):
    wishes = config.section(config.read(ROOT / "params.yaml"), "distil", DistilParams)
    pixels, splits = make_pack(tmp_path)
    stage.train(tiny(images=16), pixels=pixels, splits=splits, model=tmp_path / "m", scratch=tmp_path / "scratch")
    settings = student.training(wishes, tiny(space="latents"), sampling.load(tmp_path / "m"))
    assert settings.space == "pixels", "whatever params.yaml says by now"
    with pytest.raises(UserError, match="this model draws latents, and a student of such is not written yet"):
        student.training(wishes, tiny(), sampling.load(whole))


def another(model):
    shutil.copy(make_autoencoder(model.parent / "second", seed=1) / autoencoder.WEIGHTS, latents.beside(model))


def noted(**values):
    def change(model):
        notes = files.read_json_object(model / "stillroom.json", "")
        notes["autoencoder"] = {**notes["autoencoder"], **values} if values else 3
        (model / "stillroom.json").write_text(json.dumps(notes))

    return change


@pytest.mark.parametrize(("change", "said"), [
    (another, "not the autoencoder that this model was trained with: train or pull it again"),
    (lambda model: shutil.rmtree(latents.beside(model)), "no such folder"),
    (noted(), "not a whole denoiser"), (noted(factor=4), "another AutoencoderKL than stillroom.json says"),
    (noted(mean=[0.0]), "not a whole denoiser"), (noted(std=[0.0] * 4), "not a whole denoiser"),
    (noted(kind="UNet2DModel"), "not a whole denoiser"), (noted(factor=10**9), "not a whole denoiser"),
])  # fmt: skip
def test_a_model_without_its_autoencoder_is_one_line(whole, tmp_path, change, said):
    shutil.copytree(whole, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(UserError, match=said) as caught:
        sampling.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_picture_to_begin_from_becomes_latents_and_a_place_is_anew_where_any_of_its_pixels_is(whole, tmp_path):
    Image.new("RGB", (8, 8), (200, 40, 40)).save(tmp_path / "init.png")
    mask = Image.new("L", (8, 8))
    mask.putpixel((0, 0), 255)
    mask.save(tmp_path / "mask.png")
    model = sampling.load(whole)
    start = begin.Start((tmp_path / "init.png",), tmp_path / "mask.png")
    given = begin.given(start, model, model.pictures.shape, 2)
    assert given.images.shape == (2, 4, 4, 4)
    assert given.anew.nonzero().tolist() == [[0, 0, 0, 0]]
    drawn = sampling.sample(model, [-1, -1], seed=1, given=given, shape=model.pictures.shape)
    assert drawn.shape == (2, 8, 8, 3)
