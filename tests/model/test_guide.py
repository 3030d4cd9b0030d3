"""Autoguidance: training keeps the guide, it travels with the model, and leads samples wherever they are drawn."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from train_fixtures import COMPACT, UNET, contents, make_pack, served_pictures, tiny

from components.base.errors import UserError
from components.diffusion import conditions
from components.distil import student
from components.distil.params import DistilParams
from components.model import engines, sampling, served
from components.networks import registry
from components.train import averages, step
from components.train.stage import train

pytestmark = pytest.mark.numeric
KINDS = {"compact": COMPACT, "unet": UNET}
GUIDED = {"guide": 0.25, "autoguidance": 2.5, "images": 64, "validations": 1}


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack"))


def trained(folder, packs, **changes):
    pixels, splits = packs
    train(tiny(**GUIDED | changes), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


@pytest.fixture(scope="module", params=["compact", pytest.param("unet", marks=pytest.mark.slow(3))])
def model(request, packs, tmp_path_factory):
    guidance = 1.0 if request.param == "unet" else 2.0
    return trained(tmp_path_factory.mktemp("model"), packs, network=KINDS[request.param], guidance=guidance, onnx=True)


def test_the_guide_is_the_average_after_its_share_of_the_images(packs, tmp_path):
    model = trained(tmp_path, packs, guide=0.5, ema_snapshots=4)
    (guide,) = (model / registry.GUIDE).glob(f"*/{registry.WEIGHTS}")
    (own,) = model.glob(f"*/{registry.WEIGHTS}")
    snapshot = averages.first(averages.stored(model / averages.FOLDER)[1])
    got, last = load_file(guide), load_file(own)
    assert all(torch.allclose(got[name], weight, rtol=1e-3, atol=1e-6) for name, weight in snapshot.items())
    assert not all(torch.equal(got[name], last[name]) for name in got)


@pytest.fixture(scope="module")
def plain(packs, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain"), packs)


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow(2)), 6], ids=["before the guide", "after it"])
def test_a_training_that_was_stopped_keeps_the_same_guide(plain, packs, tmp_path, monkeypatch, stop):
    steps, work = [], step.Step.__call__

    def stopping(self, *arguments):
        steps.append(None)
        if len(steps) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return work(self, *arguments)

    monkeypatch.setattr(step.Step, "__call__", stopping)
    with pytest.raises(SystemExit):
        trained(tmp_path / "stopped", packs)
    assert contents(trained(tmp_path / "stopped", packs)) == contents(plain)


def test_samples_are_led_away_from_what_the_guide_says(model):
    """Equation 1 of Karras et al. 2024, the network pulled towards the label in the place of the better one.

    The guide gets no label.
    """
    ours = sampling.load(model)
    assert ours.autoguidance == 2.5
    x, at, labels = torch.randn(2, 3, 8, 8), torch.full((2,), 0.7), torch.tensor([0, 2])
    strong, free, weak = (
        ours.objective.denoise(network, x, at, conditions.of_classes(ids, 3))
        for network, ids in ((ours.network, labels), (ours.network, labels * 0 - 1), (ours.guide, labels * 0 - 1))
    )
    got = sampling.guided(ours, [0, 2], 2.0, 3.0, "fp32")(x, 0.7)
    pulled = free + 2 * (strong - free)
    torch.testing.assert_close(got, weak + 3 * (pulled - weak), rtol=1e-4, atol=1e-4)


def test_without_a_guide_the_model_draws_as_with_autoguidance_of_1(model, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(model, plain)
    shutil.rmtree(plain / registry.GUIDE)
    edit(plain, autoguidance=1.0)
    one = sampling.sample(plain, [0, 1], seed=3)
    assert torch.equal(one, sampling.sample(model, [0, 1], seed=3, autoguidance=1.0))
    assert not torch.equal(one, sampling.sample(model, [0, 1], seed=3))
    with pytest.raises(UserError, match="autoguidance 2: this model has no guide"):
        sampling.sample(plain, [0], seed=0, autoguidance=2.0)


def edit(folder, **values):
    path = folder / "stillroom.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_onnx_and_the_server_draw_our_pictures(model):
    wanted = sampling.sample(model, [0, 2, -1], seed=5, precision="fp32")
    by_onnx = sampling.sample(sampling.load(model, engine="onnx"), [0, 2, -1], seed=5)
    assert (by_onnx.int() - wanted.int()).abs().max() <= 1
    answer = served.Served(model).predict(["left", "both", ""], {"seed": 5})
    assert (served_pictures(answer).int() - wanted.int()).abs().max() <= 1


def test_the_lines_of_the_card_draw_our_pictures_by_onnx_alone(model, tmp_path):
    np.save(tmp_path / "noise.npy", sampling.noise(sampling.load(model), 0, range(4)).numpy())
    card = (model / "README.md").read_text()
    assert "and autoguidance 2.5; the sampler" in card and "after 0.25 of the training" in card
    (code,) = [part.split("```")[0] for part in card.split("```python\n")[1:] if "onnxruntime" in part.split("```")[0]]
    assert ("free" in code) == (sampling.load(model).guidance != 1)
    code = code.replace("FOLDER", str(model)).replace("numpy.random.randn(4, 3, 8, 8)", "numpy.load('noise.npy')")
    code = "import sys; sys.modules.update(dict.fromkeys(('components', 'torch', 'diffusers')))\n" + code
    code += "\nnumpy.save('images.npy', images)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    drawn = torch.from_numpy(np.load(tmp_path / "images.npy")).permute(0, 2, 3, 1)
    wanted = sampling.sample(model, [0, 1, 2, 0], seed=0, precision="fp32")
    assert (drawn.int() - wanted.int()).abs().max() <= 1


def test_a_student_of_a_guided_teacher_draws_without(model, packs, tmp_path):
    pixels, splits = packs
    params = DistilParams(seed=0, images=8, steps=2, gap=0.5, halvings=1, rate=0.1, samples=4)
    own = registry.params(sampling.load(model).network)
    student.distil(
        params, tiny(**GUIDED | {"network": own, "onnx": True}), teacher=model, pixels=pixels, splits=splits,
        student=tmp_path / "student", scratch=tmp_path / "scratch",
    )  # fmt: skip
    drawn = sampling.load(tmp_path / "student")
    assert (drawn.guide, drawn.guidance, drawn.autoguidance) == (None, 1.0, 1.0)
    noted = json.loads((tmp_path / "student/stillroom.json").read_text())["distilled"]
    assert (noted["guidance"], noted["autoguidance"]) == (sampling.load(model).guidance, 2.5)
    assert sampling.sample(drawn, [0], seed=0).shape == (1, 8, 8, 3)


def test_another_half_life_keeps_the_guide(packs, tmp_path):
    model = trained(tmp_path, packs, ema_half_lives=[0.05, 0.1], ema_snapshots=8)
    averages.remake(model, 0.08, tmp_path / "other")
    assert contents(tmp_path / "other" / registry.GUIDE) == contents(model / registry.GUIDE)
    assert sampling.load(tmp_path / "other").autoguidance == 2.5


# --- what can be wrong -----------------------------------------------------------------------------------------


@pytest.fixture
def copy(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_guide_that_is_damaged_or_of_another_network(copy):
    (weights,) = (copy / registry.GUIDE).glob(f"*/{registry.WEIGHTS}")
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] * torch.nan}, weights)
    with pytest.raises(UserError, match=r"copy: not a whole denoiser \(weight .* is not finite\)"):
        sampling.load(copy)
    (config,) = (copy / registry.GUIDE).glob("*/config.json")
    config.unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        sampling.load(copy)


@pytest.mark.parametrize("value", [0.5, 51, "2", True, None])
def test_notes_with_an_autoguidance_that_cannot_be(copy, value):
    edit(copy, autoguidance=value)
    with pytest.raises(UserError, match=r"copy: not a whole denoiser \(autoguidance"):
        sampling.load(copy)


def test_notes_that_name_one_without_a_guide(copy):
    shutil.rmtree(copy / registry.GUIDE)
    with pytest.raises(UserError, match="or there is no guide"):
        sampling.load(copy)


def test_onnx_without_the_guide_s_form(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / engines.ONNX_GUIDE).unlink()
    with pytest.raises(ValueError, match=r"onnx/guide\.onnx: not there"):
        served.Served(copy)
    with pytest.raises(UserError, match=r"onnx/guide\.onnx: not there"):
        sampling.load(copy, engine="onnx")
    assert sampling.load(copy).engine == "torch"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"guide": None}, "autoguidance 2.5 needs a guide"), ({"guide": 0.0}, "greater than 0"),
     ({"lora": {"rank": 2, "alpha": 2.0, "targets": ["to_q"]}}, "none is kept of adapters")],
)  # fmt: skip
def test_parameters_that_contradict(changes, words):
    with pytest.raises(ValidationError, match=words):
        tiny(**GUIDED | changes)


def test_a_training_that_ends_before_the_guide_has_none(packs, tmp_path, caplog):
    caplog.set_level("WARNING")
    model = trained(tmp_path, packs, guide=0.9, patience=1, validations=8, learning_rate=1e-12, muon_rate=0.0)
    assert "ended before image 56, so there is none" in caplog.text
    assert not (model / registry.GUIDE).exists() and sampling.load(model).autoguidance == 1
