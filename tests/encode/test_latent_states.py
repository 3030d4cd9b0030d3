"""Stage `encode`: latents of the pack's pictures, normalised over the training images and made once each."""

import json

import pytest
import torch
from latent_fixtures import encoded, latent_state, make_autoencoder, named
from train_fixtures import bucket_pack, contents, make_pack, shaped_pack

from components.base.errors import UserError
from components.dataset import tensors
from components.encode.stage import encode
from components.networks import autoencoder
from components.samples import facts, latents, pack


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_every_row_has_the_latents_of_its_picture_as_the_training_images_normalise_them(tmp_path, kind):
    state = latent_state(tmp_path, kind)
    found = latents.read(state["latents"], state["pixels"])
    pictures, held = tensors.Pixels(state["pixels"]), tensors.Pixels(found.pack)
    assert held.header.spec.kind == "latent" and held.header.spec.shape == (4, 4, 4)
    assert pack.read_keys(found.pack) == pack.read_keys(state["pixels"])
    assert held.header.classes == pictures.header.classes and torch.equal(held.class_ids, pictures.class_ids)
    model, rows = autoencoder.load(found.vae), list(range(held.header.rows))
    wanted = model.encode(pictures.batch(rows))
    assert torch.allclose(held.batch(rows), wanted, atol=4e-3), "but for half precision"
    train = held.batch(pack.read_split(state["splits"], "train"))
    axes = (0, 2, 3) if kind == "AutoencoderKL" else (0, 1, 2, 3)
    assert torch.allclose(train.std(axes), torch.ones(()), atol=0.01)
    assert held.header.spec.sigma_data == pytest.approx(float(held.batch(rows).std()), rel=0.01)
    if kind == "AutoencoderKL":
        assert torch.allclose(train.mean(axes), torch.zeros(4), atol=0.01)
    else:
        assert found.autoencoder.mean == (0.0,) * 4 and len(set(found.autoencoder.std)) == 1


def test_a_picture_is_encoded_once_and_comes_to_the_same_bytes_whatever_is_beside_it(tmp_path, monkeypatch):
    state, vae = latent_state(tmp_path), tmp_path / "autoencoder"
    first = contents(tmp_path / "latents")
    paths = {name: state[name] for name in ("pixels", "splits")}
    assert encoded(tmp_path, vae, **paths)["latents_new"] == 0
    assert contents(tmp_path / "latents") == first
    other = tmp_path / "other"  # some of them are known, and the others are encoded in another company
    other.mkdir()
    store = next((tmp_path / "facts/latent").iterdir())
    kept = facts.Store(tmp_path / "facts", "latent", store.name, "V128")
    assert kept.forget(kept.names[5:18]) == 13
    assert encoded(tmp_path, vae, **paths)["latents_new"] == 13
    assert contents(tmp_path / "latents") == first
    other_vae = make_autoencoder(tmp_path / "second", seed=1)
    assert encoded(tmp_path, other_vae, **paths)["latents_new"] == 48
    assert (
        latents.held(tmp_path / "latents").autoencoder.sha256
        != json.loads(first["latents.json"])["autoencoder"]["sha256"]
    )


def test_its_metric_is_how_near_pictures_come_when_they_are_decoded(tmp_path):
    pixels, splits = make_pack(tmp_path)
    found = encoded(tmp_path, make_autoencoder(tmp_path / "own"), pixels=pixels, splits=splits)
    held = latents.read(tmp_path / "latents", pixels)
    rows = pack.read_split(splits, "val")
    decoded = autoencoder.load(held.vae).decode(tensors.Pixels(held.pack).batch(rows)).clamp(-1, 1)
    error = (decoded - tensors.Pixels(pixels).batch(rows)).square().mean()
    assert found["latents_psnr"] == pytest.approx(float(10 * torch.log10(4 / error)), abs=0.02)


def test_without_a_wish_there_is_one_small_file(tmp_path):
    pixels, splits = make_pack(tmp_path)
    (tmp_path / "autoencoder").mkdir()
    given = {"verdicts": tmp_path, "text": tmp_path / "text", "latents": tmp_path / "latents",
             "facts": tmp_path / "facts", "pixels": pixels, "splits": splits}  # fmt: skip
    own = make_autoencoder(tmp_path / "own")
    assert encode(named(own).model_copy(update={"latents": None}), **given) == {}
    assert json.loads((tmp_path / "latents/latents.json").read_text()) == {"autoencoder": None, "format": 1}
    assert latents.read(tmp_path / "latents", pixels) is None and len(contents(tmp_path / "latents")) == 1


def test_latents_of_another_pack_are_refused(tmp_path):
    state = latent_state(tmp_path)
    other, _ = make_pack(tmp_path / "other", rows=24)
    with pytest.raises(UserError, match=r"latents\.json: not what stage 'encode' writes \(of another pack than"):
        latents.read(state["latents"], other)


@pytest.mark.parametrize(("shape", "changes", "said"), [
    ((3, 9, 8), {}, "2 pixels of a side become one place of a latent, and 2 does not divide 8 × 9: change resize.side"),
    ((1, 8, 8), {}, "an autoencoder for pictures of 3 channels, and these have 1"),
    ((3, 8, 8), {"scaling_factor": 1e9}, r"the latents of row 0 \([0-9a-f]{12}\) hold a number that is not finite"),
])  # fmt: skip
def test_pictures_of_which_it_makes_no_latents_are_one_line(tmp_path, shape, changes, said):
    pixels, splits = shaped_pack(tmp_path, shape)
    with pytest.raises(UserError, match=said):
        encoded(tmp_path, make_autoencoder(tmp_path / "own", **changes), pixels=pixels, splits=splits)
    assert not (tmp_path / "latents").exists(), "nothing half-written"


def test_pictures_of_several_shapes_are_one_line(tmp_path):
    pixels, splits = bucket_pack(tmp_path)
    with pytest.raises(UserError, match=r"^encode.latents: of pictures of one size only, and these have several"):
        encoded(tmp_path, make_autoencoder(tmp_path / "own"), pixels=pixels, splits=splits)
