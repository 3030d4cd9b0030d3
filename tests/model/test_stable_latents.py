"""A U-Net that reads captions and draws latents is a Stable Diffusion pipeline with the autoencoder of its training."""

import json

import pytest
import torch
from latent_fixtures import encoded, make_autoencoder
from test_stable import READS, SAID, TOKENS, alone
from text_fixtures import told_pack
from train_fixtures import tiny

from components.model import prompts, sampling
from components.train import stage


@pytest.mark.slow(15)
def test_diffusers_alone_draws_what_we_draw(tmp_path):
    data = told_pack(tmp_path, TOKENS, side=16)
    packs = {name: data[name] for name in ("pixels", "splits")}
    encoded(tmp_path / "latent", make_autoencoder(tmp_path / "vae"), **packs)
    params = tiny(**{**READS, "images": 32}, space="latents")
    model = tmp_path / "model"
    stage.train(params, **data, latents=tmp_path / "latent/latents", model=model, scratch=tmp_path / "scratch")
    index = json.loads((model / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"] and index["unet"] == ["diffusers", "UNet2DConditionModel"]
    ours = sampling.load(model)
    noise = sampling.noise(ours, 5, [0, 1])
    torch.save(noise, tmp_path / "noise.pt")
    done = alone(f"""
images = draw({SAID}, latents=torch.load("noise.pt"), num_inference_steps=12, guidance_scale=3.0,
              output_type="pt").images
torch.save(images, "theirs.pt")
print(type(draw).__name__)
""", model, tmp_path)  # fmt: skip
    assert done.stdout == "StableDiffusionPipeline\n"
    theirs, said = torch.load(tmp_path / "theirs.pt"), prompts.said(model, ours.text, SAID)
    drawn = sampling.sample(ours, [-1, -1], seed=5, text=said, guidance=3.0, precision="fp32", autoguidance=1.0)
    assert theirs.shape == (2, 3, 16, 16)
    assert (drawn.permute(0, 3, 1, 2) / 255 - theirs).abs().mean() < 0.02
