"""Training with captions: what the network is told, resumed bit for bit, handed out with what a prompt needs."""

import json
import shutil

import pytest
import torch
from text_fixtures import WIDTH, tell, told_pack
from train_fixtures import COMPACT, DIT, contents, stop_at_second_checkpoint, tiny

from components.base import files
from components.base.errors import UserError
from components.dataset import tensors
from components.dataset.told import Captions
from components.diffusion import conditions
from components.model import prompts, sampling
from components.networks import registry
from components.samples import pack, texts
from components.train import averages, loop, stage
from components.train.distributed.ranks import Group
from components.train.feed import Feed

TOLD = {"network": COMPACT, "onnx": True, "conditions": ["text"], "images": 64, "checkpoint_images": 16}
ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return told_pack(tmp_path_factory.mktemp("told"))


def run(folder, params, data):
    return stage.train(params, **data, model=folder / "model", scratch=folder / "scratch")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, tiny(**TOLD, guide=0.5, autoguidance=1.0), data)
    return folder / "model"


# --- what a row is told ------------------------------------------------------------------------------------------


def test_each_of_several_captions_is_chosen_alike_often_and_none_is_zeros(data):
    found = Captions(data["text"], data["pixels"])
    rows = torch.zeros(1000, dtype=torch.int64) + 1
    numbers = found.numbers(rows, torch.arange(1000) / 1000)
    assert sorted(set(numbers.tolist())) == sorted(
        set(found.texts.numbers[found.texts.starts[1] : found.texts.starts[2]])
    )
    assert (numbers == numbers[0]).sum() == 500
    assert found.numbers([0]).tolist() == [-1] and not found.vectors(found.numbers([0])).any()
    assert found.vectors(numbers[:1]).norm() == pytest.approx(WIDTH**0.5, rel=1e-2)


@pytest.mark.parametrize("conditions", [["text"], ["label", "text"]])
def test_a_batch_has_the_caption_of_its_image_and_drops_its_share(data, conditions):
    params = tiny(
        network=COMPACT, onnx=True, conditions=conditions, label_dropout=0.5, caption_dropout=0.25, images=4096
    )
    pixels = loop.told(params, data["pixels"], data["text"])
    rows = torch.tensor(list(pack.read_split(data["splits"], "train")))
    feed = Feed(params, pixels, rows, ALONE)
    untold = unlabelled = told = 0
    for place in range(0, 4096, 8):
        batch, shown = feed.batch(place), feed.rows_at(place, place + 8)
        for vector, row, at in zip(batch.condition["text"], shown.tolist(), range(8), strict=True):
            mine = pixels.captions.texts.numbers[
                pixels.captions.texts.starts[row] : pixels.captions.texts.starts[row + 1]
            ]
            if not mine:
                assert not vector.any()
                continue
            told += 1
            untold += not vector.any()
            if vector.any():
                assert any(torch.equal(vector, pixels.captions._pooled[number].float()) for number in mine)
            if "label" in batch.condition:
                without = int(batch.condition["label"][at]) == 3
                unlabelled += without
                assert without or vector.any(), "the same number drops both"
    assert untold / told == pytest.approx(0.25, abs=0.03)
    if "label" in conditions:
        assert unlabelled / told == pytest.approx(0.5, abs=0.03)
    assert ("label" in feed.batch(0).condition) == ("label" in conditions)


# --- what comes out ----------------------------------------------------------------------------------------------


def test_the_model_folder_says_who_encoded_and_brings_it(whole, data):
    found = sampling.load(whole)
    assert found.text == Captions(data["text"], data["pixels"]).encoder
    assert found.classes == () and registry.labels(found.network) == 0
    assert registry.text_width(found.network) == registry.text_width(found.guide) == WIDTH
    assert (whole / prompts.FOLDER / "model.safetensors").is_file()
    assert not (whole / "MLmodel").exists(), "the served code has no encoder"
    assert "stillroom sample --prompt" in (whole / "README.md").read_text()
    vector = prompts.said(whole, found.text, ["dark left side"])["text"]
    rows = list(pack.read_classes(data["pixels"]))
    wanted = Captions(data["text"], data["pixels"])
    assert torch.equal(vector[0], wanted.vectors(wanted.numbers([rows.index(0)]))[0]), "as it was trained"


def test_a_training_with_captions_goes_on_bit_for_bit(whole, data, tmp_path, monkeypatch):
    stop_at_second_checkpoint(monkeypatch)
    params = tiny(**TOLD, guide=0.5, autoguidance=1.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, params, data)
    run(tmp_path, params, data)
    assert contents(tmp_path / "model") == contents(whole)


@pytest.mark.parametrize("engine", [pytest.param("torch", marks=pytest.mark.slow(4)), "onnx"])
def test_a_prompt_decides_what_is_drawn_and_zeros_are_no_prompt(whole, engine):
    model = sampling.load(whole, engine=engine)
    both = prompts.said(whole, model.text, ["dark left side", "a blue fish"])
    one, other = (conditions.rows(both, [at]) for at in (0, 1))
    nothing = sampling.sample(model, [-1], seed=1)
    assert torch.equal(sampling.sample(model, [-1], seed=1, text={"text": torch.zeros(1, WIDTH)}), nothing)
    drawn = [sampling.sample(model, [-1], seed=1, text=each, guidance=4.0).int() for each in (one, other)]
    assert (drawn[0] - drawn[1]).abs().max() > 0
    led = sampling.sample(model, [-1], seed=1, text=one, guidance=4.0, negative=other).int()
    assert (led - drawn[0]).abs().max() > 0
    two = sampling.sample(model, [-1, -1], seed=1, text=both, guidance=4.0).int()
    assert (two[1] - sampling.sample(model, [-1], seed=1, start=1, text=other, guidance=4.0)[0]).abs().max() <= 1


def test_both_engines_draw_the_same_picture(whole):
    said = prompts.said(whole, sampling.load(whole).text, ["dark right side"])
    drawn = [sampling.sample(sampling.load(whole, engine=engine), [-1], seed=3, text=said, precision="fp32").int()
             for engine in ("torch", "onnx")]  # fmt: skip
    assert (drawn[0] - drawn[1]).abs().max() <= 1


@pytest.mark.slow(3)
def test_labels_and_captions_together(data, tmp_path):
    run(tmp_path, tiny(**{**TOLD, "conditions": ["label", "text"], "images": 16, "sheet": 4, "ema_snapshots": 2}), data)
    averages.remake(tmp_path / "model", 0.05, tmp_path / "ema")
    again = sampling.load(tmp_path / "ema")
    assert prompts.said(tmp_path / "ema", again.text, ["a fish"])["text"].shape == (1, WIDTH), "with its encoder"
    model = sampling.load(tmp_path / "model")
    assert model.classes == ("left", "right", "both") and registry.labels(model.network) == 4
    said = prompts.said(tmp_path / "model", model.text, ["dark left side"])
    assert sampling.sample(model, [0], seed=0, text=said).shape == (1, 8, 8, 3)
    assert list((tmp_path / "scratch/samples").glob("*.png")), "the sheet shows captions of held-out images"


# --- what is asked for and cannot be -----------------------------------------------------------------------------


def test_text_that_nobody_encoded_is_one_line(data, tmp_path):
    off = tmp_path / "text"
    off.mkdir()
    texts.write(off, None, data["pixels"])
    for text in (off, None):
        with pytest.raises(UserError, match=r"^train.conditions: asks for text, but encode.text is null: set that"):
            run(tmp_path, tiny(**TOLD), {**data, "text": text})


def test_a_network_without_captions_is_one_line(data, tmp_path):
    with pytest.raises(UserError, match=r"^train.network.kind dit: takes no captions: take compact or unet"):
        run(tmp_path, tiny(conditions=["text"], network=DIT), data)
    with pytest.raises(UserError, match=r"^train.network.kind unet: reads the tokens of captions, and encode.text.tok"):
        run(tmp_path, tiny(conditions=["text"]), data)


@pytest.mark.parametrize(("prompt", "said"), [
    ("a " * 40, "prompt 'a a a a .*': more than the 12 tokens that the encoder of this model takes: say it in fewer"),
])  # fmt: skip
def test_a_prompt_that_cannot_be_told_is_one_line(whole, prompt, said):
    with pytest.raises(UserError, match=said):
        prompts.said(whole, sampling.load(whole).text, [prompt])
    with pytest.raises(UserError, match="this model takes no captions"):
        prompts.said(whole, None, ["a fish"])


def test_another_encoder_than_that_of_the_training_is_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model" / prompts.FOLDER / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    with pytest.raises(UserError, match="not the text encoder that this model was trained with"):
        prompts.said(tmp_path / "model", sampling.load(whole).text, ["a fish"])


@pytest.mark.parametrize("text", [None, {}, {"name": "folder", "sha256": "0" * 64, "width": 8, "longest": 12}, 3])
def test_a_folder_whose_encoder_is_of_another_width_is_refused(whole, tmp_path, text):
    shutil.copytree(whole, tmp_path / "model")
    notes = files.read_json_object(whole / "stillroom.json", "")
    (tmp_path / "model/stillroom.json").write_text(json.dumps({**notes, "text": text}))
    with pytest.raises(UserError, match="not a whole denoiser"):
        sampling.load(tmp_path / "model")


def test_captions_of_another_encoder_make_another_training(data, tmp_path):
    first = stage.key(tiny(**TOLD), data["pixels"], data["splits"], None, data["text"])
    other = tell(tmp_path / "text", data["pixels"], [["a"]] * 48)
    assert stage.key(tiny(**TOLD), data["pixels"], data["splits"], None, other) != first
    plain = tiny(network=COMPACT, onnx=True)
    told = [stage.key(plain, data["pixels"], data["splits"], None, text) for text in (None, data["text"], other)]
    assert len(set(told)) == 1, "who is not told does not care"


def test_pixels_know_only_what_the_network_is_told(data):
    plain = loop.told(tiny(), data["pixels"], data["text"])
    assert plain.captions is None and set(plain.condition([1, 2])) == {"label"}
    alone = loop.told(tiny(**TOLD), data["pixels"], data["text"])
    assert set(alone.condition([1, 2])) == {"text"} and alone.header.classes == ()
    assert set(loop.told(tiny(conditions=[]), data["pixels"], None).condition([1])) == set()
    assert isinstance(plain, tensors.Pixels)
