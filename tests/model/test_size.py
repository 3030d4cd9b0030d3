"""A model of several shapes draws any of them, by torch, by ONNX, and with diffusers alone its usual one."""

import functools
import json
import shutil

import pytest
import torch
from PIL import Image
from train_fixtures import BUCKETS, COMPACT, UNET, bucket_pack, by_a_stranger, tiny

from components.base.errors import UserError
from components.model import sampling
from components.train.stage import train
from flows.model import sample


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What trains a network of a kind on three shapes, once."""
    folder = tmp_path_factory.mktemp("trained")
    pixels, splits = bucket_pack(folder)

    @functools.cache
    def model(kind):
        network = {"compact": COMPACT, "unet": UNET}[kind]
        train(tiny(images=16, network=network, onnx=True, guide=0.5, autoguidance=2.0), pixels=pixels, splits=splits,
              model=folder / kind, scratch=folder / "scratch")  # fmt: skip
        return folder / kind

    return model


@pytest.mark.parametrize("kind", ["compact", pytest.param("unet", marks=pytest.mark.slow(5))])
def test_torch_and_onnx_draw_each_shape_alike(trained, kind):
    by_torch, by_onnx = (sampling.load(trained(kind), engine=engine) for engine in ("torch", "onnx"))
    for shape in (*BUCKETS, (3, 4, 16)):
        wanted = sampling.sample(by_torch, [0, 1, -1], seed=2, shape=shape, precision="fp32")
        found = sampling.sample(by_onnx, [0, 1, -1], seed=2, shape=shape)
        assert wanted.shape == found.shape == (3, *shape[1:], 3)
        assert (wanted.int() - found.int()).abs().max() <= 1
    assert torch.equal(sampling.sample(by_torch, [0], seed=2), sampling.sample(by_torch, [0], seed=2, shape=BUCKETS[1]))
    frames, _ = sampling.film(by_torch, [0, 1], seed=2, frames=2, shape=BUCKETS[0])
    assert frames.shape == (2, 2, 12, 8, 3)


def test_a_size_that_the_network_does_not_take_is_one_line(trained):
    model = sampling.load(trained("compact"))
    with pytest.raises(UserError, match="size 9 × 8: this model draws pictures whose sides are multiples of 2 pixels"):
        sampling.sample(model, [0], seed=0, shape=(3, 8, 9))
    with pytest.raises(UserError, match="size 8 × 8: this model draws pictures whose sides are multiples"):
        sampling.sample(model, [0], seed=0, shape=(1, 8, 8))


def drawn(folder, source, **changes):
    wanted = {"model": str(source), "num": 2, "labels": (), "seed": 5, "sampler": None, "steps": None, "guidance": None,
              "autoguidance": None, "spacing": None, "eta": None, "engine": "torch", "scale": 1}  # fmt: skip
    outputs = sample.Outputs(sheet=folder / "sheet.png", film=None, each=folder / "each")
    sample.sample(None, sample.Request(**wanted | changes), outputs, dry_run=False)
    return Image.open(folder / "each/seed5-00000.png").size


def test_the_command_draws_the_size_that_it_is_given_and_warns_of_one_it_never_saw(trained, tmp_path, capsys):
    assert drawn(tmp_path, trained("compact")) == (8, 8)
    assert drawn(tmp_path, trained("compact"), size="12x8") == (12, 8)
    assert "trained" not in capsys.readouterr().err
    assert drawn(tmp_path, trained("compact"), size="4x16") == (4, 16)
    assert capsys.readouterr().err.startswith(
        "--size 4x16: the model was trained on 8x12, 8x8, 12x8; other sizes may look repeated or cut\n"
    )  # fmt: skip


@pytest.mark.parametrize(("size", "line"), [
    ("12", "--size 12: wanted width x height in pixels, such as 8x8"), ("0x8", "wanted width x height"),
    ("8x8x8", "wanted width x height"), ("-8x8", "wanted width x height"), ("99999x8", "wanted width x height"),
    ("9x8", "--size 9x8: this model's network draws multiples of 2 pixels"),
])  # fmt: skip
def test_a_size_that_cannot_be_is_one_line(trained, tmp_path, size, line):
    with pytest.raises(UserError, match=line):
        drawn(tmp_path, trained("compact"), size=size)


def test_an_onnx_form_of_one_size_draws_that_alone(trained, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(trained("compact"), copy)
    notes = json.loads((copy / "stillroom.json").read_text())
    del notes["shapes"]
    (copy / "stillroom.json").write_text(json.dumps(notes))
    with pytest.raises(UserError, match=r"draws 8x8 only, as ONNX \(try --engine torch\)"):
        drawn(tmp_path, copy, size="12x8", engine="onnx")
    assert drawn(tmp_path, copy, size="12x8") == (12, 8)


@pytest.mark.parametrize("shapes", [
    5, "abc", [5], [[3, 8]], [[3, 8, 8], [3, 8, 8]], [[3, 8, 12]], [[3, 8, 8], [1, 8, 12]], [[3, 8, 8], [3, 8, -2]],
    [[3, 8, 8], [3, 10**6, 10**6]], [[3, 8, 8], [3, 8, True]], {"a": 1},
])  # fmt: skip
def test_notes_with_odd_shapes_are_one_line(trained, tmp_path, shapes):
    copy = tmp_path / "model"
    shutil.copytree(trained("compact"), copy)
    notes = json.loads((copy / "stillroom.json").read_text())
    (copy / "stillroom.json").write_text(json.dumps(notes | {"shapes": shapes}))
    with pytest.raises(UserError, match="not a whole denoiser") as caught:
        sampling.load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.slow(16)
def test_diffusers_alone_draws_the_squarest_shape(trained, tmp_path):
    code = f"""
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(trained("unet"))!r})
print(pipe(batch_size=1, num_inference_steps=2).images[0].size)
import torch
given = dict(timestep=torch.ones(1), class_labels=torch.zeros(1, dtype=torch.int64))
print(tuple(pipe.unet(torch.zeros(1, 3, 12, 8), **given).sample.shape))
"""
    assert by_a_stranger(code, tmp_path) == ["(8, 8)", "(1, 3, 12, 8)"]


def test_the_card_names_the_shapes_and_its_lines_draw_the_usual_one(trained, tmp_path):
    words = (trained("compact") / "README.md").read_text()
    assert "It was trained on images of 3 shapes (width x height: 8 x 12, 8 x 8, 12 x 8)" in words
    assert "onnx/model.onnx takes them all." in words
    (block,) = [part for part in words.split("```") if part.startswith("python") and "onnxruntime" in part]
    code = block.removeprefix("python").replace("FOLDER", str(trained("compact"))) + "\nprint(images.shape)\n"
    assert by_a_stranger(code, tmp_path) == ["(4, 3, 8, 8)"]
