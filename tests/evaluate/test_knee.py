"""What a sweep's knee makes of a model: the same network, drawing in so many steps wherever that is said."""

import json
import shutil

import pytest
from train_fixtures import COMPACT, DIT, contents, make_pack, tiny

from components.evaluate import knee
from components.model import sampling, served
from components.train.stage import train


@pytest.fixture(scope="module", params=[COMPACT, DIT], ids=lambda values: values["kind"])
def model(request, tmp_path_factory):
    """Trained to draw in 4 steps."""
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder, classes=("left", "## How to sample", "num_inference_steps=4)"))
    params = tiny(network=request.param, onnx=True)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


def test_the_registered_model_draws_in_the_knee_by_every_way(model, tmp_path):
    own = sampling.load(model)
    knee.write(tmp_path, model, own, 2)
    written = contents(tmp_path / "knee")
    assert set(written) == {"stillroom.json", "README.md", "onnx/levels.json"}
    before, after = (json.loads((folder / "stillroom.json").read_text()) for folder in (model, tmp_path / "knee"))
    assert after == {**before, "steps": 2}
    registered = tmp_path / "registered"
    shutil.copytree(model, registered)
    shutil.copytree(tmp_path / "knee", registered, dirs_exist_ok=True)
    assert sampling.plan(sampling.load(registered)).sigmas == sampling.plan(own, steps=2).sigmas
    by_default, asked = (
        served.Served(registered).predict(["left"]),
        served.Served(model).predict(["left"], {"steps": 2}),
    )
    assert by_default == asked
    card = (registered / "README.md").read_text()
    assert "Its samples take 2 steps (the knee of the sweep in `scores.json`) at guidance" in card
    assert "num_inference_steps=4)" in card, "a class may be called that"
    assert ("set_timesteps(2)" in card, "set_timesteps(4)" in card) == ("DiT" in card, False)


@pytest.mark.parametrize("number", [None, 4])
def test_nothing_is_written_where_the_model_draws_so_already(model, tmp_path, number):
    knee.write(tmp_path, model, sampling.load(model), number)
    assert not list(tmp_path.iterdir())
