"""Models of latents in plain diffusers: the stock pipelines draw what we draw."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from latent_fixtures import latent_state
from train_fixtures import DIT, UNET, by_a_stranger, tiny

from components.model import sampling
from components.networks import registry
from components.train.stage import train

DRAW = """if True:
    import importlib, numpy, torch
    from diffusers import DiffusionPipeline
    noise = torch.load("noise.pt")
    importlib.import_module({module!r}).randn_tensor = lambda *_, **__: noise
    pipeline = DiffusionPipeline.from_pretrained({model!r})
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline({arguments}, num_inference_steps=40, output_type="np").images
    numpy.save("drawn.npy", (drawn * 255).round().astype("u1"))
    print(type(pipeline).__name__, *(type(each).__name__ for _, each in sorted(pipeline.components.items()) if each))
    print(getattr(pipeline, "labels", None))
"""
LDM = "diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond"
DITS = "diffusers.pipelines.dit.pipeline_dit"


def made(folder, kind, network, **changes):
    state = latent_state(folder, kind, **({} if network is DIT else {"classes": ()}))
    params = tiny(space="latents", network=network, steps=40, guidance=2.0, images=32, **changes)
    train(params, **state, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


def drawn_by_both(model: Path, folder: Path, ids: list[int], module: str, arguments: str, **wishes):
    """What a stranger's pipeline and we draw from the same noise, int NHWC, and what the stranger prints."""
    torch.save(sampling.noise(sampling.load(model), 5, range(len(ids))), folder / "noise.pt")
    lines = by_a_stranger(DRAW.format(module=module, model=str(model), arguments=arguments), folder)
    theirs = torch.from_numpy(np.load(folder / "drawn.npy")).int()
    return theirs, sampling.sample(model, ids, seed=5, precision="fp32", **wishes).int(), lines


def alike(theirs, ours):
    """Two solvers at 40 steps come to about the same picture, and far from that of other noise."""
    apart, others = ((each - ours).abs().float().mean() for each in (theirs, theirs.flip(0)))
    return bool(apart < 2) and bool(4 * apart < others)


@pytest.mark.slow(8)
@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_a_unet_without_labels_is_an_ldm_pipeline(tmp_path, kind):
    model = made(tmp_path, kind, UNET)
    theirs, ours, lines = drawn_by_both(model, tmp_path, [-1, -1], LDM, "batch_size=2")
    assert lines[0] == f"LDMPipeline DPMSolverMultistepScheduler UNet2DModel {kind}"
    assert alike(theirs, ours)


@pytest.mark.slow(8)
@pytest.mark.parametrize("objective", ["v", "flow"])
def test_a_dit_with_labels_is_a_dit_pipeline(tmp_path, objective):
    own = {"objective": "flow", "schedule": "logit_normal", "weighting": "plain"} if objective == "flow" else {}
    model = made(tmp_path, "AutoencoderKL", DIT, **own)
    found = sampling.load(model)
    assert found.null_class == registry.PIPELINES_NULL and registry.labels(found.network) == 1001
    arguments = "class_labels=[0, 2], guidance_scale=2.0"
    theirs, ours, lines = drawn_by_both(model, tmp_path, [0, 2], DITS, arguments)
    assert lines[0] == "DiTPipeline DPMSolverMultistepScheduler DiTTransformer2DModel AutoencoderKL"
    assert lines[1] == "{'both': 2, 'left': 0, 'right': 1}"
    assert alike(theirs, ours)
    card = (model / "README.md").read_text()
    assert "torch.full((4,), 1000)  # the classes by number; 1000 stands for no label" in card


def test_a_dit_of_latents_that_no_pipeline_draws_says_nothing_of_one(tmp_path):
    model = made(tmp_path, "AutoencoderKL", DIT, objective="edm", schedule="log_normal", weighting="plain")
    assert not (model / "model_index.json").exists()
    assert json.loads((model / "stillroom.json").read_text())["null_class"] == 1000
    assert sampling.sample(model, [0], seed=0).shape == (1, 8, 8, 3)
