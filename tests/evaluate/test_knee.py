"""What a sweep's knee makes of a model: the same network, drawing in so many steps wherever that is said."""

import json
import shutil
from dataclasses import asdict

import pytest
from train_fixtures import COMPACT, DIT, contents, make_pack, served_pictures, tiny

from components.evaluate import knee, sweep
from components.model import sampling, served
from components.train.stage import train


@pytest.fixture(scope="module", params=[COMPACT, DIT], ids=lambda values: values["kind"])
def model(request, tmp_path_factory):
    """Trained to draw in 4 steps, at guidance 2."""
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder, classes=("left", "## How to sample", "num_inference_steps=4)"))
    params = tiny(network=request.param, onnx=True, guide=0.5)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


def test_the_registered_model_draws_in_the_knee_by_every_way(model, tmp_path):
    own = sampling.load(model)
    way = sweep.Way(steps=2, sampler="dpmpp_2m", guidance=1.0, autoguidance=3.0)
    knee.write(tmp_path, model, own, way)
    written = contents(tmp_path / "knee")
    assert set(written) == {"stillroom.json", "README.md", "onnx/levels.json"}
    before, after = (json.loads((folder / "stillroom.json").read_text()) for folder in (model, tmp_path / "knee"))
    assert after == {**before, "steps": 2, "guidance": 1.0, "autoguidance": 3.0}
    registered = tmp_path / "registered"
    shutil.copytree(model, registered)
    shutil.copytree(tmp_path / "knee", registered, dirs_exist_ok=True)
    assert sampling.plan(sampling.load(registered)) == sampling.plan(own, **asdict(way))
    asked = sampling.sample(own, [0], seed=0, precision="fp32", **asdict(way))
    assert (served_pictures(served.Served(registered).predict(["left"])).int() - asked.int()).abs().max() <= 1
    card = (registered / "README.md").read_text()
    said = "Its samples take 2 steps at guidance 1 and autoguidance 3 (the knee of the sweep in `scores.json`); the"
    assert said in card and "found = weak + 3 * (found - weak)" in card and "free = " not in card
    assert card.endswith((model / "README.md").read_text().partition("\n## Limits\n")[2])
    assert "num_inference_steps=4)" in card, "a class may be called that"
    assert ("set_timesteps(2)" in card, "set_timesteps(4)" in card) == ("DiT" in card, False)


def test_nothing_is_written_where_the_model_draws_so_already(model, tmp_path):
    own = sampling.load(model)
    for way in (None, sweep.own(own)):
        knee.write(tmp_path, model, own, way)
    assert not list(tmp_path.iterdir())
