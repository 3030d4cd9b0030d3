"""A sweep: which ways of drawing it compares, and which of them is the knee."""

import json

import pytest
import torch
from evaluate_fixtures import PARAMS, run
from train_fixtures import COMPACT, tiny

from components.base import config
from components.base.errors import UserError
from components.dataset import tensors
from components.evaluate import measure, stage, sweep
from components.evaluate.params import WayParams
from components.samples import pack
from components.train.stage import train

pytestmark = pytest.mark.numeric


@pytest.mark.slow(3)
def test_a_sweep_draws_the_same_noise_in_each_number_of_steps(made, tmp_path, alone, monkeypatch):
    """In 2 steps it draws noise, from 3 on real images: the knee is 3."""
    images, asked = tensors.Pixels(made[0]), []
    real = images.gather(list(pack.read_split(made[1], "train")))

    def draw(_run, class_ids, *, seed, steps=None, first=0, what="", **_):
        if not first:  # else those that fill the rows of rare labels
            asked.append((tuple(class_ids), seed, steps))
        rest = torch.randint(0, 256, real.shape, dtype=torch.uint8) if steps == 2 else real
        return [rest[: len(class_ids)]]

    monkeypatch.setattr(measure, "samples", draw)
    monkeypatch.setattr(sweep, "SAMPLES", 8)
    numbers = run(made, tmp_path, PARAMS.model_copy(update={"sweep": (2, 3, 5)}))
    assert [steps for *_, steps in asked] == [2, 3, 5, 3], "what is scored is drawn in the knee, too"
    assert len({(ids, seed) for ids, seed, _ in asked[:3]}) == 1 and len(asked[0][0]) == 8
    table = json.loads((tmp_path / "evaluation/scores.json").read_text())
    assert [point["steps"] for point in table["sweep"]] == [2, 3, 5] and table["knee"]["steps"] == 3
    assert table["sweep"][0]["change"]["low"] > 0 == table["sweep"][1]["change"]["value"]
    assert numbers["sweep_knee"] == 3 and numbers["sweep_kid_2"] > numbers["sweep_kid_5"]
    assert table["sampler"]["steps"] == 3
    assert json.loads((tmp_path / "evaluation/knee/stillroom.json").read_text())["steps"] == 3
    assert json.loads((tmp_path / "evaluation/film.json").read_text())["frames"] == 3


WAYS = [
    WayParams(steps=4, sampler="dpmpp_2m", guidance=pull, autoguidance=push)
    for pull, push in ((1.0, 2.0), (1.0, 1.0), (3.0, 2.0))
]


@pytest.mark.slow(5)
def test_a_sweep_of_ways_takes_the_cheapest_that_is_near_and_shows_its_label(made, tmp_path, alone, monkeypatch):
    """Without guidance it draws the wrong labels, with both kinds noise, and with one kind real images."""
    pixels, splits, _ = made
    params = tiny(guide=0.5, network=COMPACT, onnx=True)
    train(params, pixels=pixels, splits=splits, model=tmp_path / "model", scratch=tmp_path / "scratch")
    images, rows = tensors.Pixels(pixels), list(pack.read_split(splits, "train"))
    real, ids = images.gather(rows), images.class_ids[rows].tolist()

    def draw(_run, class_ids, *, guidance=2.0, autoguidance=1.0, **_):
        if guidance == 3:
            return [torch.randint(0, 256, (len(class_ids), *real.shape[1:]), dtype=torch.uint8)]
        wrong = (guidance, autoguidance) == (1.0, 1.0)
        return [torch.stack([real[ids.index((each + wrong) % 3)] for each in class_ids])]

    monkeypatch.setattr(measure, "samples", draw)
    wanted = PARAMS.model_copy(update={"sweep": tuple(WAYS), "samples": 30})
    numbers = run((pixels, splits, tmp_path / "model"), tmp_path, wanted)
    table = json.loads((tmp_path / "evaluation/scores.json").read_text())
    assert [(point["guidance"], point["autoguidance"], point["calls"]) for point in table["sweep"]] == [
        (2.0, 1.0, 8), (1.0, 2.0, 8), (1.0, 1.0, 4), (3.0, 2.0, 12)], "the model's own way is one of them"  # fmt: skip
    own, _, plain, noisy = table["sweep"]
    assert plain["agreement"]["change"]["high"] < 0 == own["agreement"]["change"]["value"]
    assert noisy["change"]["low"] > 0 and (table["knee"]["guidance"], table["knee"]["autoguidance"]) == (2.0, 1.0)
    assert numbers["sweep_knee_calls"] == 8
    assert numbers["sweep_kid_4_dpmpp_2m_guidance_1_autoguidance_2"] == pytest.approx(own["value"])


def test_of_ways_of_as_many_calls_the_nearest_is_the_knee():
    near = {"low": -0.1, "high": 0.1}
    points = [
        {**WAYS[0].model_dump(), "calls": calls, "value": value, "change": {"value": 0, **near}, "steps": steps}
        for steps, calls, value in ((3, 8, 2.0), (4, 8, 1.5), (5, 12, 1.0))
    ]
    assert sweep.knee(points).steps == 4


@pytest.mark.parametrize(
    ("sweep", "words"),
    [([0], r"sweep\[0\] should be greater than or equal to 1, not 0"), (["a"], r"sweep\[0\] should be a valid integer"),
     ([8, {"steps": 16}], r"sweep\[1\]\.sampler is missing"),
     ([{"steps": 16, "sampler": "dpm", "guidance": 1.0, "autoguidance": 1.0}], r"sweep\[0\]\.sampler should be 'ddpm'"),
     ([{"steps": 16, "sampler": "ddim", "guidance": 1.0, "autoguidanc": 2.0}], "did you mean 'autoguidance'")],
)  # fmt: skip
def test_what_is_wrong_with_a_way_is_named_at_its_place(sweep, words):
    section = {**PARAMS.model_dump(mode="json"), "sweep": sweep}
    with pytest.raises(UserError, match=words):
        config.section({"evaluate": section}, "evaluate", stage.EvaluateParams)


def test_a_way_that_cannot_be_is_refused_before_anything_is_drawn(made, tmp_path, alone, monkeypatch):
    monkeypatch.setattr(measure, "workers", None)
    with pytest.raises(UserError, match="autoguidance 2: this model has no guide"):
        run(made, tmp_path, PARAMS.model_copy(update={"sweep": (WAYS[0],)}))
