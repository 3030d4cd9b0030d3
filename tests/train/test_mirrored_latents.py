"""Mirrored pictures have latents of their own, and training shows those."""

import pytest
import torch
from latent_fixtures import latent_state
from train_fixtures import AUGMENT, COMPACT, contents, tiny

from components.base.errors import UserError
from components.dataset import augment, tensors
from components.networks import autoencoder
from components.samples import latents, pack
from components.train import loop, stage
from components.train.distributed.ranks import Group
from components.train.feed import Feed

FLIP = {"space": "latents", "network": COMPACT, "onnx": True, "images": 512,
        "augment": {**AUGMENT, "horizontal_flip": 0.4, "label": True}}  # fmt: skip
ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return latent_state(tmp_path_factory.mktemp("state"), mirrored=True)


def feed(state, params):
    space = latents.read(state["latents"], state["pixels"])
    rows = torch.tensor(list(pack.read_split(state["splits"], "train")))
    return Feed(params, loop.told(params, space.pack, None, space), rows, ALONE)


def test_the_latents_of_mirrored_pictures_are_those_that_the_autoencoder_gives(state):
    space = latents.held(state["latents"])
    rows, model = list(range(48)), autoencoder.load(space.vae)
    pictures = tensors.Pixels(state["pixels"]).batch(rows)
    found = tensors.Pixels(space.mirrored).batch(rows)
    assert torch.allclose(found, model.encode(pictures.flip(3)), atol=4e-3)
    assert not torch.allclose(found, tensors.Pixels(space.pack).batch(rows).flip(3), atol=0.1), "no flipped latents"


def test_a_batch_shows_the_mirrored_latents_of_its_share(state):
    params = tiny(**FLIP)
    given, space = feed(state, params), latents.held(state["latents"])
    packs = [tensors.Pixels(folder) for folder in (space.pack, space.mirrored)]
    mirrored = 0
    for place in range(0, 512, 8):
        batch, rows = given.batch(place), given.rows_at(place, place + 8)
        drawn = augment.draw(params.augment, params.seed, torch.arange(place, place + 8)).mirrored
        assert torch.equal(batch.done[:, 0], drawn), "and the network is told"
        for image, row, which in zip(batch.image, rows.tolist(), drawn.long().tolist(), strict=True):
            assert torch.equal(image, packs[which].batch([row])[0])
            mirrored += which
    assert mirrored / 512 == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("loaders", [0, 2])
def test_who_reads_them_decides_nothing(state, monkeypatch, loaders):
    params = tiny(**FLIP)
    wanted = [feed(state, params).batch(place).image.clone() for place in (0, 8, 64)]
    if not loaders:
        monkeypatch.setattr(Feed, "_fits", lambda _: True)  # as on a GPU, which holds all of them
    other = feed(state, tiny(**FLIP, loaders=loaders))
    assert all(torch.equal(other.batch(place).image, each) for place, each in zip((0, 8, 64), wanted, strict=True))
    other.close()


def test_without_augmentation_they_decide_nothing(state, tmp_path):
    plain = {name: state[name] for name in ("pixels", "splits")}
    params = tiny(**{**FLIP, "augment": AUGMENT, "images": 16})
    stage.train(params, **state, model=tmp_path / "one", scratch=tmp_path / "scratch")
    other = latent_state(tmp_path / "bare")
    stage.train(params, **plain, latents=other["latents"], model=tmp_path / "two", scratch=tmp_path / "scratch")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_pack_of_other_rows_is_one_line(state, tmp_path):
    other = latent_state(tmp_path, rows=24)
    found = tensors.Pixels(latents.held(state["latents"]).pack)
    with pytest.raises(UserError, match="has other rows than the pack beside it: run stage 'encode' again"):
        found.mirror(latents.held(other["latents"]).pack)
