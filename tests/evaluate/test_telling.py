"""Evaluating a model that takes captions: samples are told what held-out images say, and are looked for by it."""

import dataclasses
import json
import shutil

import pytest
import torch
from evaluate_fixtures import PARAMS
from text_fixtures import tell, told_pack
from train_fixtures import COMPACT, UNET, contents, tiny

from components.base.errors import UserError
from components.dataset import tensors
from components.dataset.told import Captions
from components.embed import features
from components.evaluate import paired, retrieval, stage, telling
from components.model import sampling
from components.samples import pack
from components.train.stage import train


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    data = told_pack(folder)
    params = tiny(network=COMPACT, onnx=True, conditions=["text"], images=16)
    train(params, **data, model=folder / "model", scratch=folder / "scratch")
    return {**data, "model": folder / "model"}


def test_it_is_scored_as_any_other_and_by_its_captions_too(told, tmp_path, alone):
    numbers = stage.evaluate(PARAMS, **told, evaluation=tmp_path / "one")
    table = json.loads((tmp_path / "one/scores.json").read_text())
    scores, found = table["scores"], table["scores"][f"retrieval_{features.NAME}"]
    rows = list(pack.read_split(told["splits"], "test"))
    assert found["images"] == sum(kind >= 0 for kind in (pack.read_classes(told["pixels"])[row] for row in rows))
    assert found["chance"] == 1 and found["value"] == 1, "ten places are all that there are"
    assert numbers[f"retrieval_{features.NAME}_median_place"] == found["median_place"] >= 1
    assert all(row["found"] == 1 for row in table["words"])
    assert numbers["x0_error"] > 0 and f"kid_{features.NAME}" in scores
    stage.evaluate(PARAMS, **told, evaluation=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_champion_is_told_what_the_candidates_samples_were(told, tmp_path, alone):
    stage.evaluate(PARAMS, **told, evaluation=tmp_path / "candidate")
    champion = shutil.copytree(told["model"], tmp_path / "champion")
    shutil.copy(tmp_path / "candidate/scores.json", champion)  # and no table of samples: they are drawn now
    said, unsaid = (paired.kid_change(tmp_path / "candidate", champion, told["pixels"], confidence=0.9, text=text)
                    for text in (told["text"], None))  # fmt: skip
    assert said["value"] == pytest.approx(0, abs=1e-9), "it is the same model, and drew the same"
    assert abs(unsaid["value"]) > 1e-6


def test_samples_of_a_label_are_told_captions_of_held_out_images_of_it_in_turn(told):
    model, rows = sampling.load(told["model"]), range(32, 48)
    found = telling.Telling(telling.Told(told["text"], told["pixels"], tuple(rows)), model)
    captions, ids = Captions(told["text"], told["pixels"]), pack.read_classes(told["pixels"])
    vectors = found.of_classes([0, 0, 2, -1], 0)["text"]
    for vector, kind in zip(vectors, (0, 0, 2), strict=False):
        known = [captions.vectors(captions.numbers([row]))[0] for row in rows if ids[row] == kind]
        assert any(torch.equal(vector, each) for each in known)
    assert not vectors[3].any(), "no image without a label has a caption"


def test_errors_with_captions_differ_from_those_of_one_that_is_told_nothing(told, alone):
    rows = [40, 41, 43]
    errors = [stage.x0_errors(told["model"], told["pixels"], rows, seed=0, quiet=True, text=text)
              for text in (told["text"], None)]  # fmt: skip
    assert not torch.equal(*errors)


def test_places_are_those_of_the_right_picture_and_of_any_with_the_same_caption():
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    drawn = torch.tensor([[0.1], [0.0], [2.9], [0.0]])
    assert retrieval.places(drawn, real, [0, 1, 2, 3]).tolist() == [1, 2, 2, 4]
    assert retrieval.places(drawn, real, [0, 1, 2, 0]).tolist() == [1, 2, 2, 1]


def test_chance_is_what_any_order_reaches():
    looked = retrieval.Retrieved(["a fish"] * 100, torch.arange(1, 101))
    found = retrieval.score(looked, times=20, confidence=0.9, seed=0)
    assert found["value"] == pytest.approx(0.1) and found["chance"] == pytest.approx(0.1)
    assert found["low"] <= 0.1 <= found["high"] and found["median_place"] == 50


def test_words_that_are_drawn_well_come_first_and_rare_ones_not_at_all():
    said = ["a red fish"] * 5 + ["Blue fish!"] * 5 + ["a stone 7"] * 4
    places = torch.tensor([1] * 5 + [10, 11, 11, 11, 11] + [1] * 4)
    assert retrieval.words(retrieval.Retrieved(said, places)) == [
        {"word": "red", "images": 5, "found": 1.0}, {"word": "fish", "images": 10, "found": 0.6},
        {"word": "blue", "images": 5, "found": 0.2},
    ]  # fmt: skip


def test_those_looked_for_are_spread_over_the_test_images_that_have_a_caption(told):
    images = tensors.Pixels(told["pixels"])
    images.tell(told["text"], told["pixels"])
    ids = pack.read_classes(told["pixels"])
    assert telling.chosen(images, range(48), 1000) == [row for row in range(48) if ids[row] >= 0]
    assert len(telling.chosen(images, range(48), 5)) == 5


def test_captions_of_another_encoder_are_refused_before_anything_is_drawn(told, tmp_path):
    other = tell(tmp_path / "text", told["pixels"], [["a"]] * 48)
    with pytest.raises(UserError, match=r"^data/text: of another encoder than that of the model"):
        stage.evaluate(PARAMS, **{**told, "text": other}, evaluation=tmp_path / "evaluation")


def test_a_model_of_vectors_is_told_vectors_alone_and_one_of_tokens_needs_as_many(told, tmp_path):
    data, rows = told_pack(tmp_path, tokens=6), tuple(range(32, 48))
    model = sampling.load(told["model"])
    found = telling.Telling(telling.Told(data["text"], data["pixels"], rows), model)
    assert set(found.of_rows([40, 41])) == {"text"}
    reads = dataclasses.replace(model, text=dataclasses.replace(model.text, tokens=6, nothing=2))
    found = telling.Telling(telling.Told(data["text"], data["pixels"], rows), reads)
    assert found.of_classes([0, -1], 0)["mask"].sum(1).tolist() == [5, 2]
    for text, holds in ((told["text"], "no"), (told_pack(tmp_path / "other", tokens=8)["text"], "8")):
        with pytest.raises(UserError, match=rf"^data/text: holds {holds} tokens of a caption, and the model reads 6: "):
            telling.Telling(telling.Told(text, told["pixels"], rows), reads)


@pytest.mark.slow(15)
@pytest.mark.parametrize("network", [COMPACT, UNET], ids=lambda network: network["kind"])
def test_a_model_that_reads_tokens_is_scored_as_any_other(tmp_path, alone, network):
    data = told_pack(tmp_path, tokens=6)
    params = tiny(network=network, onnx=network is COMPACT, conditions=["text"], images=16)
    train(params, **data, model=tmp_path / "model", scratch=tmp_path / "scratch")
    numbers = stage.evaluate(PARAMS, **data, model=tmp_path / "model", evaluation=tmp_path / "evaluation")
    assert numbers["x0_error"] > 0 and numbers[f"retrieval_{features.NAME}_median_place"] >= 1
    rows = [40, 41, 43]
    errors = [stage.x0_errors(tmp_path / "model", data["pixels"], rows, seed=0, quiet=True, text=text)
              for text in (data["text"], None)]  # fmt: skip
    assert not torch.equal(*errors)
