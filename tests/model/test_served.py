"""The file by which `mlflow models serve` draws: our pictures, from a model folder, without our code or torch."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_fixtures import COMPACT, DIT, contents, make_pack, served_pictures, tiny

from components.diffusion import names, samplers
from components.diffusion import objective as objectives
from components.diffusion.noise import generator
from components.diffusion.schedule import ENDS
from components.model import grid, portable, sampling, served
from components.train.stage import train

pytestmark = pytest.mark.numeric
LABELS = ["left", "both", ""]


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 9, 7), (1, 5, 5), (4, 32, 16)], ids=str)
def test_its_noise_is_torch_s(shape):
    for seed, number in ((0, 0), (2**31 - 1, 999)):
        wanted = torch.randn(shape, generator=generator(seed, "sample", number))
        torch.testing.assert_close(torch.from_numpy(served.noise(seed, number, shape)), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, some in names.SCHEDULES.items() for name in some], ids=str
)
@pytest.mark.parametrize("steps", [1, 2, 37])
@pytest.mark.parametrize("ends", [None, (0.001, 300.0)])
def test_its_levels_are_those_of_the_objective_at_any_number_of_steps(kind, name, steps, ends):
    objective = objectives.objective(kind, name, 0.3, ends if name in ENDS else None)
    sigmas = samplers.log_spaced(steps, *objective.schedule.visited)
    wanted = portable.coefficients(objective, sigmas)
    found = served.levels(json.loads(json.dumps(objective.note())), steps)
    assert [list(one) for one in found] == [list(one) for one in wanted]
    for key in wanted[0]:
        got, right = ([one[key] for one in some] for some in (found, wanted))
        np.testing.assert_allclose(got, right, rtol=2e-4, atol=2e-3 if key == "timestep" else 1e-7)


TRAINED = {"compact": (COMPACT, "v", "cosine"), "dit": (DIT, "flow", "logit_normal")}


@pytest.fixture(scope="module", params=list(TRAINED))
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    network, objective, schedule = TRAINED[request.param]
    params = tiny(network=network, objective=objective, schedule=schedule, onnx=True)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler"])
def test_it_draws_our_pictures_of_a_seed(model, tmp_path, steps, sampler):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    edit(folder / "stillroom.json", sampler=sampler)
    drawn = served.Served(folder).predict(LABELS, {"seed": 5, "count": 5, "start": 2, "steps": steps})
    ours = sampling.load(folder)
    wanted = sampling.sample(ours, [0, 2, -1, 0, 2], seed=5, start=2, steps=steps or None, precision="fp32")
    assert (served_pictures(drawn).int() - wanted.int()).abs().max() <= 1
    assert [(one["label"], one["number"]) for one in drawn] == list(
        zip(["left", "both", None, "left", "both"], range(2, 7), strict=True)
    )


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_more_pictures_than_a_batch_are_the_same_ones(model):
    one = served.Served(model)
    many = one.predict([""], {"count": served._BATCH + 2, "steps": 1})
    assert many[-2:] == one.predict([""], {"count": 2, "start": served._BATCH, "steps": 1})


def test_each_png_says_what_made_it(model, tmp_path):
    (drawn,) = served.Served(model).predict(["left"], {"seed": 3})
    text = Image.open(io.BytesIO(base64.b64decode(drawn["png"]))).text
    assert {name: text[name] for name in grid.MADE_BY_A_MODEL} == grid.MADE_BY_A_MODEL
    said = json.loads(text["Stillroom"])
    (weights,) = model.glob("*/diffusion_pytorch_model.safetensors")
    assert said == {
        "model": None, "weights": served._sha256(weights), "seed": 3, "sampler": "dpmpp_2m", "steps": 4,
        "levels": "the model's", "eta": None, "guidance": 2.0, "autoguidance": 1.0,
        "engine": "onnx", "number": 0, "label": "left",
    }  # fmt: skip
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "registered_model_meta").write_text("model_name: denoiser\nmodel_version: '3'\n")
    assert served.Served(folder).origin["model"] == "denoiser/3"
    (folder / ".pulled.json").write_text('{"model": "denoiser", "version": 12}')
    assert served.Served(folder).origin["model"] == "denoiser/12"


@pytest.mark.parametrize(
    ("labels", "params", "line"),
    [
        (["Left"], {}, "label 'Left' is not one of left, right, both"),
        ([["left", "both"]], {}, r"label \['left', 'both'\] is not one of"),
        ([], {}, "wanted a label"),
        (["left"], {"count": 1001}, r"count in 0\.\.1000"),
        (["left"], {"steps": -1}, r"steps in 0\.\.1000"),
        (["left"], {"start": -1}, "start from 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, labels, params, line):
    with pytest.raises(ValueError, match=line):
        served.Served(model).predict(labels, params)


def test_a_distilled_model_has_one_number_of_steps(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    levels = json.loads((folder / "onnx/levels.json").read_text())
    edit(folder / "stillroom.json", sigmas=[one["sigma"] for one in levels])
    one = served.Served(folder)
    assert one.predict(["left"], {"steps": len(levels)})
    with pytest.raises(ValueError, match="was distilled to draw in 4"):
        one.predict(["left"], {"steps": 3})


def test_a_student_that_jumps_is_drawn_as_stillroom_draws_it(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    sigmas = [80.0, 5.0, 0.5]
    edit(folder / "stillroom.json", sampler="consistency", sigmas=sigmas, steps=3, guidance=1.0)
    loaded = sampling.load(folder)
    portable.write_levels(folder, loaded.objective, sigmas)
    drawn = served.Served(folder)._draw(["left", None], served.Served(folder).levels, 5, range(7, 9))
    wanted = sampling.sample(loaded, [0, -1], seed=5, start=7).numpy()
    assert abs(drawn.astype(int) - wanted).max() <= 1


def test_a_file_that_the_manifest_does_not_promise_is_not_drawn_from(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    files = {name: {"sha256": served._sha256(folder / name)} for name in contents(folder)}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": files}))
    assert served.Served(folder)
    (folder / "stillroom.json").write_text((folder / "stillroom.json").read_text() + " ")
    with pytest.raises(ValueError, match=r"stillroom\.json: not what MANIFEST\.json promises"):
        served.Served(folder)


@pytest.mark.slow(6)
@pytest.mark.parametrize("model", ["compact"], indirect=True)
def test_mlflow_loads_the_folder_without_our_code_or_torch_and_leaves_it_as_it_was(model, tmp_path):
    before = contents(model)
    absent = ("components", "flows", "torch", "diffusers", "safetensors", "onnx", "PIL")
    code = f"""if True:
        import json, sys
        sys.modules.update(dict.fromkeys({absent}))
        import mlflow, pandas
        model = mlflow.pyfunc.load_model({str(model)!r})
        labels = pandas.DataFrame({{"label": ["left", "both", None]}})
        print(json.dumps(model.predict(labels, params={{"seed": 5, "count": 5}})))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == served.Served(model).predict(LABELS, {"seed": 5, "count": 5})
    assert contents(model) == before, "a puller refuses a folder that holds more"


def test_what_is_written_for_mlflow_is_always_the_same(model):
    words = (model / "MLmodel").read_text()
    assert not any(word in words for word in (str(model), "uuid", "time", sys.prefix))
    assert (model / "code/stillroom_served.py").read_text() == Path(served.__file__).read_text()


def test_a_picture_of_any_number_of_channels_is_a_png():
    for channels, side in itertools.product((1, 2, 3, 4), (1, 5)):
        picture = np.random.default_rng(channels).integers(0, 256, (side, side + 1, channels), dtype=np.uint8)
        with Image.open(io.BytesIO(served.png(picture, {"a": "ä"}))) as opened:
            assert opened.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels] and opened.text == {"a": "ä"}
            assert np.array_equal(np.array(opened).reshape(picture.shape), picture)
