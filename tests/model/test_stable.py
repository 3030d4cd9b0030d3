"""A U-Net that reads captions is handed out as a Stable Diffusion pipeline: diffusers alone draws with it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from text_fixtures import WIDTH, told_pack
from train_fixtures import UNET, contents, stop_at_second_checkpoint, tiny

from components.base.errors import UserError
from components.dataset.told import Captions
from components.embed import sentences
from components.model import prompts, sampling, stable
from components.networks import registry
from components.train import averages, stage

TOKENS = 8
READS = {"network": UNET, "conditions": ["text"], "images": 64, "checkpoint_images": 16, "steps": 12,
         "guide": 0.5, "ema_snapshots": 2}  # fmt: skip
SAID = ["dark left side", "a blue fish"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return told_pack(tmp_path_factory.mktemp("told"), TOKENS)


def run(folder, params, data):
    return stage.train(params, **data, model=folder / "model", scratch=folder / "scratch")


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    run(folder, tiny(**READS), data)
    return folder / "model"


LOAD = """
import sys, warnings
sys.modules.update(dict.fromkeys(["components", "flows"]))
warnings.simplefilter("error", FutureWarning)
import torch
from diffusers import DiffusionPipeline
draw = DiffusionPipeline.from_pretrained("FOLDER")
draw.set_progress_bar_config(disable=True)
"""
"""What somebody does who has diffusers and transformers, and not our code."""


def alone(code, model, folder):
    """What ``code`` prints and complains of, in ``folder``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", (LOAD + code).replace("FOLDER", str(model))], cwd=folder,
                          env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow(20)
def test_diffusers_alone_draws_what_we_draw(model, tmp_path):
    ours = sampling.load(model)
    noise = sampling.noise(ours, 5, [0, 1])
    torch.save(noise, tmp_path / "noise.pt")
    done = alone(f"""
noise, said = torch.load("noise.pt"), {SAID}
embeds, none = draw.encode_prompt(said, "cpu", 1, True)
with torch.no_grad():
    answer = draw.unet(noise, torch.tensor([30, 700]), encoder_hidden_states=embeds).sample
    through = draw.vae.decode(noise.clamp(-1, 1) / draw.vae.config.scaling_factor).sample - noise.clamp(-1, 1)
    back = draw.vae.encode(noise.clamp(-1, 1)).latents * draw.vae.config.scaling_factor - noise.clamp(-1, 1)
images = draw(said, latents=noise, num_inference_steps=12, guidance_scale=3.0, output_type="pt").images
again = draw(said, latents=noise, num_inference_steps=12, guidance_scale=3.0, negative_prompt=["a stone"] * 2,
             output_type="pt").images
torch.save([embeds, none, answer, images, again], "theirs.pt")
print(type(draw).__name__, float(through.abs().max()), float(back.abs().max()))
""", model, tmp_path)  # fmt: skip
    name, through, back = done.stdout.split()
    assert name == "StableDiffusionPipeline" and float(through) < 1e-5 and float(back) < 1e-5
    assert not any(word in done.stderr for word in ("outdated", "truncated", "not expected")), done.stderr
    embeds, none, answer, images, again = torch.load(tmp_path / "theirs.pt")
    said, negative = prompts.said(model, ours.text, SAID), prompts.said(model, ours.text, ["a stone"])
    torch.testing.assert_close(embeds, said["tokens"].float(), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(none[:1], ours.nothing["tokens"].float(), rtol=2e-3, atol=2e-3)
    with torch.no_grad():
        mine = ours.network(noise, torch.tensor([30.0, 700.0]), **said).sample
    torch.testing.assert_close(mine, answer, rtol=0, atol=5e-3)
    for theirs, more in ((images, {}), (again, {"negative": negative})):
        drawn = sampling.sample(ours, [-1, -1], seed=5, text=said, guidance=3.0, precision="fp32", autoguidance=1.0,
                                **more).permute(0, 3, 1, 2) / 255  # fmt: skip
        assert (drawn - theirs).abs().mean() < 0.02 < 0.05 < (drawn - theirs.flip(0)).abs().mean()


@pytest.mark.slow(12)
def test_the_card_s_lines_draw(model, tmp_path):
    card = (model / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    alone(code + '\nfor at, image in enumerate(images):\n    image.save(f"{at}.png")\n', model, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert "The encoder is\nthe folder `text_encoder`" in card and "the mean over its tokens" not in card


def test_the_folder_says_what_it_is_to_us_and_to_diffusers(model, data):
    index = json.loads((model / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"] and index["text_encoder"] == [
        "transformers",
        "BertModel",
    ]
    loaded = sampling.load(model)
    assert loaded.text == Captions(data["text"], data["pixels"]).encoder
    assert sentences.identity(model / prompts.FOLDER) == loaded.text.sha256, "with the word for diffusers in its config"
    assert json.loads((model / "text_encoder/config.json").read_text())["use_attention_mask"] is True
    assert registry.text_width(loaded.network) == WIDTH and registry.kind(loaded.network) == "unet"
    assert registry.params(loaded.network) == UNET


@pytest.mark.slow(8)
def test_both_engines_draw_the_same_pictures(data, tmp_path):
    run(tmp_path, tiny(**{**READS, "onnx": True, "images": 16}, autoguidance=1.5), data)
    model = tmp_path / "model"
    both = [sampling.load(model, engine=engine) for engine in ("torch", "onnx")]
    for wishes in ({"text": prompts.said(model, both[0].text, SAID)}, {}):
        drawn = [
            sampling.sample(each, [-1] * 2, seed=3, precision="fp32", guidance=3.0, **wishes).int() for each in both
        ]
        assert (drawn[0] - drawn[1]).abs().max() <= 1


@pytest.mark.slow(6)
def test_it_goes_on_from_a_checkpoint_bit_for_bit(model, data, tmp_path, monkeypatch):
    stop_at_second_checkpoint(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiny(**READS), data)
    run(tmp_path, tiny(**READS), data)
    assert contents(tmp_path / "model") == contents(model)


def test_a_model_made_again_of_another_average_is_a_pipeline_too(model, tmp_path):
    averages.remake(model, 0.05, tmp_path / "ema")
    again = contents(tmp_path / "ema")
    for name, content in contents(model).items():
        if name.split("/")[0] in (*stable.FOLDERS, "model_index.json"):
            assert again[name] == content, name


@pytest.mark.parametrize(("changes", "said"), [
    ({"conditions": ["label", "text"]}, "train.network.kind unet: takes captions or labels, not both: set train.cond"),
    ({"objective": "eps", "schedule": "exponential"}, "train.network.kind unet: takes no captions on schedule expo"),
    ({"network": {"kind": "dit", "patch": 2, "width": 16, "depth": 2, "heads": 2}}, "train.network.kind dit: takes no"),
])  # fmt: skip
def test_what_no_pipeline_would_draw_is_one_line_before_anything_is_trained(data, tmp_path, changes, said):
    with pytest.raises(UserError, match=f"^{said}") as raised:
        run(tmp_path, tiny(**{**READS, **changes}), data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("side", "tokens", "said"), [
    (12, 8, "train.network.kind unet: takes captions with images whose sides 8 divides, not 12 x 12: change resize"),
    (16, 8, "train.network.widths: the tokens of captions are read at 8 pixels and below, and the coarsest resolution"),
    (8, 0, "train.network.kind unet: reads the tokens of captions, and encode.text.tokens is null: set it to 32"),
])  # fmt: skip
def test_a_shape_that_does_not_fit_is_one_line(side, tokens, said):
    widths = [32, 32] if side == 12 else [32]
    with pytest.raises(UserError, match=f"^{said}"):
        registry.build(tiny(network={**UNET, "widths": widths}).network, schedule_name="cosine", shape=(3, side, side),
                       classes=0, text_width=16, text_tokens=tokens)  # fmt: skip


def test_an_encoder_of_a_package_of_another_version_is_refused_before_the_training(data, tmp_path, monkeypatch):
    text = shutil.copytree(data["text"], tmp_path / "text")
    shutil.move(text / "encoder", tmp_path / "minilm")
    monkeypatch.setattr(sentences, "minilm", lambda: tmp_path / "minilm")
    assert stable.encoder(Captions(text, data["pixels"])) == tmp_path / "minilm"
    (tmp_path / "minilm/tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match="not the version by which data/text was made: run stage 'encode' again"):
        run(tmp_path, tiny(**READS), {**data, "text": text})
