"""Autoencoders of diffusers from a folder: normalised without a change to what they say, and refused in one line."""

import json

import pytest
import torch
from latent_fixtures import SMALL, make_autoencoder
from safetensors.torch import load_file, save_file

from components.base.errors import UserError
from components.networks import autoencoder

MEAN, STD = (0.5, -2.0, 0.1, 3.0), (0.2, 1.5, 4.0, 0.7)
BARE = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.3}
PICTURES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def normal(values, size):
    return torch.tensor(values).view(1, size, 1, 1)


@pytest.mark.parametrize(("kind", "changes"), [(kind, {}) for kind in SMALL] + [("AutoencoderKL", BARE)])
def test_a_normalised_autoencoder_gives_normalised_latents_and_the_same_pictures(tmp_path, kind, changes):
    folder = make_autoencoder(tmp_path / "own", kind, scaling_factor=0.18, **changes)
    mean, std = (MEAN, STD) if autoencoder.by_channel(kind) else ((0.0,) * 4, (1.5,) * 4)
    autoencoder.normalised(folder, mean, std, tmp_path / "made")
    own, made = autoencoder.load(folder), autoencoder.load(tmp_path / "made")
    latents = own.encode(PICTURES)
    assert latents.shape == (2, own.channels, 4, 4) and (own.factor, own.colours) == (2, 3)
    wanted = (latents - normal(mean, 4)) / normal(std, 4)
    assert torch.allclose(made.encode(PICTURES), wanted, atol=1e-5)
    assert torch.allclose(made.decode(wanted), own.decode(latents), atol=1e-5)
    assert not (own.decode(latents) - own.decode(latents + 0.1)).abs().max() < 1e-4


def test_weights_in_half_precision_are_widened(tmp_path):
    folder = make_autoencoder(tmp_path / "own")
    held = load_file(folder / autoencoder.WEIGHTS)
    save_file({name: value.half() for name, value in held.items()}, folder / autoencoder.WEIGHTS)
    assert autoencoder.load(folder).encode(PICTURES).dtype == torch.float32


def pickled(folder):
    (folder / autoencoder.WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")


def changed(**values):
    def change(folder):
        path = folder / autoencoder.CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def infinite(folder):
    held = load_file(folder / autoencoder.WEIGHTS)
    held["decoder.conv_in.bias"][0] = torch.inf
    save_file(held, folder / autoencoder.WEIGHTS)


@pytest.mark.parametrize(("change", "said"), [
    (pickled, r"\.bin: is a pickle, which can run code, and is not read: bring the autoencoder as diffusion_pytorch"),
    (lambda folder: (folder / autoencoder.CONFIG).unlink(), r"config\.json: not there: an autoencoder has config"),
    (lambda folder: (folder / autoencoder.WEIGHTS).write_bytes(b"x" * 99), "not an autoencoder that can be read"),
    (changed(_class_name="UNet2DModel"), "'UNet2DModel' is none of AutoencoderKL, AutoencoderTiny, AutoencoderDC"),
    (changed(_class_name=["AutoencoderKL"]), "is none of AutoencoderKL"),
    (changed(block_out_channels=[8, 16]), "not an autoencoder that can be read"),
    (changed(in_channels=2), "not an autoencoder that can be read"),
    (infinite, r"weight decoder\.conv_in\.bias is not finite"),
])  # fmt: skip
def test_a_folder_that_holds_no_sound_autoencoder_is_one_line(tmp_path, change, said):
    folder = make_autoencoder(tmp_path / "own")
    change(folder)
    with pytest.raises(UserError, match=said) as caught:
        autoencoder.load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_or_of_another_hash_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder: it is named as an autoencoder"):
        autoencoder.check(tmp_path / "none")
    folder = make_autoencoder(tmp_path / "own")
    with pytest.raises(UserError, match=r"safetensors: its SHA-256 is [0-9a-f]{64}, not 0{64} as in encode\.latents"):
        autoencoder.check(folder, "0" * 64)
    assert autoencoder.identity(folder) != autoencoder.identity(make_autoencoder(tmp_path / "other", seed=1))
