"""Averages of the weights: the profile they promise, and any other length found afterwards."""

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from train_fixtures import make_pack, tiny

from components.base.errors import UserError
from components.model import sampling
from components.networks import registry
from components.train import averages
from components.train.optim import flat
from components.train.stage import train

pytestmark = pytest.mark.numeric

STEPS, BATCH = 400, 4


class Wandering(nn.Module):
    """Two weights that walk at random."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5))

    def step(self, source):
        with torch.no_grad():
            for weight in self.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=source)


def walk(half_lives, folder=None, snapshots=16):
    """Averages over one fixed walk, stored on the way if a folder is given; and the weights of each step."""
    network, source, path = Wandering(), torch.Generator().manual_seed(0), []
    kept = averages.Averages(Wandering(), half_lives)
    for step in range(1, STEPS + 1):
        network.step(source)
        kept.update(list(network.parameters()), kept.shares(step * BATCH, BATCH))
        path.append(network.b.detach().clone())
        if folder and step % (STEPS // snapshots) == 0:
            averages.store(folder, kept, step * BATCH)
    return kept, torch.stack(path)


def test_an_average_is_the_power_function_mean_of_all_weights_so_far():
    kept, path = walk([0.06])
    power = math.log(2) / 0.06
    ends = (torch.arange(STEPS + 1, dtype=torch.float64) / STEPS) ** power
    wanted = ((ends[1:] - ends[:-1])[:, None] * path).sum(0)
    torch.testing.assert_close(kept.first.b.detach().double(), wanted, rtol=0, atol=1e-5)


def test_half_of_an_average_is_younger_than_its_half_life():
    power = math.log(2) / 0.06
    assert (1 - 0.06) ** power == pytest.approx(0.5, abs=0.02)


def test_several_are_kept_side_by_side_and_do_not_touch_each_other():
    both, _ = walk([0.03, 0.2])
    for at, half_life in enumerate([0.03, 0.2]):
        alone, _ = walk([half_life])
        for one, other in zip(alone.first.parameters(), both.named(at).values(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("half_life", [0.03, 0.06, 0.12, 0.2])
def test_an_average_of_another_length_is_found_from_the_snapshots_of_two(half_life, tmp_path):
    walk([0.04, 0.09], tmp_path)
    tracked, path = walk([half_life])
    found = averages.reconstruct(averages.stored(tmp_path), half_life)
    spread = float((path[-1] - tracked.first.b).norm())
    assert float((found["b"] - tracked.first.b).norm()) < 0.02 * spread
    assert found["a"].shape == (3, 4)
    assert found["a"].dtype == torch.float32


def test_a_length_that_was_tracked_comes_back_as_it_was_but_for_half_precision(tmp_path):
    tracked, _ = walk([0.09, 0.04], tmp_path)
    found = averages.reconstruct(averages.stored(tmp_path), 0.09)
    torch.testing.assert_close(found["b"], tracked.first.b.detach(), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(("half_life", "deviation"), [(0.0386, 0.05), (0.0873, 0.1)])
def test_half_lives_are_lengths_as_the_paper_gives_them(half_life, deviation):
    assert averages.relative_deviation(half_life) == pytest.approx(deviation, rel=1e-3)


@pytest.mark.slow
def test_a_trained_model_is_made_again_with_another_half_life(tmp_path):
    pixels, splits = make_pack(tmp_path / "packs")

    def trained(name, **changes):
        params = tiny(images=160, validations=1, **changes)
        train(params, pixels=pixels, splits=splits, model=tmp_path / name, scratch=tmp_path / "scratch")
        return load_file(tmp_path / name / "unet" / registry.WEIGHTS)

    trained("model", ema_half_lives=[0.04, 0.1], ema_snapshots=10)
    wanted = trained("other", ema_half_lives=[0.06])
    averages.remake(tmp_path / "model", 0.06, tmp_path / "remade")
    got = load_file(tmp_path / "remade" / "unet" / registry.WEIGHTS)
    for name, weight in wanted.items():
        torch.testing.assert_close(got[name], weight, rtol=0.02, atol=2e-3, msg=name)
    assert len(list((tmp_path / "model" / averages.FOLDER).iterdir())) == 10
    assert not (tmp_path / "remade" / averages.FOLDER).exists()
    assert sampling.load(tmp_path / "remade").steps == 4


def test_what_is_saved_comes_back_and_goes_on_bit_for_bit():
    kept, _ = walk([0.05, 0.1])
    other = averages.Averages(Wandering(), [0.05, 0.1])
    other.load_state_dict(kept.state_dict())
    network = Wandering()
    network.step(torch.Generator().manual_seed(5))
    for each in (kept, other):
        each.update(list(network.parameters()), each.shares((STEPS + 1) * BATCH, BATCH))
    for at in range(2):
        one, two = kept.named(at), other.named(at)
        assert all(torch.equal(one[name], two[name]) for name in ("a", "b"))


def test_averages_in_one_vector_are_the_same():
    network, source = Wandering(), torch.Generator().manual_seed(0)
    plain, other = averages.Averages(Wandering(), [0.05, 0.1]), averages.Averages(Wandering(), [0.05, 0.1], in_one=True)
    vector = flat.flatten(network.parameters())
    for step in range(1, 30):
        network.step(source)
        shares = plain.shares(step * BATCH, BATCH)
        plain.update(list(network.parameters()), shares)
        other.update([vector], shares)
    for at in range(2):
        assert all(torch.allclose(plain.named(at)[name], other.named(at)[name], atol=1e-6) for name in ("a", "b"))


def test_a_share_that_only_the_device_knows_gives_the_same_average():
    network, source = Wandering(), torch.Generator().manual_seed(0)
    plain, other = averages.Averages(Wandering(), [0.05, 0.1]), averages.Averages(Wandering(), [0.05, 0.1])
    for step in range(1, 30):
        network.step(source)
        shares = plain.shares(step * BATCH, BATCH)
        plain.update(list(network.parameters()), shares)
        other.update(list(network.parameters()), torch.tensor(shares).unbind())
    for at in range(2):
        assert all(torch.allclose(plain.named(at)[name], other.named(at)[name], atol=1e-6) for name in ("a", "b"))


def test_weights_that_do_not_learn_are_no_part_of_a_snapshot(tmp_path):
    kept = averages.Averages(Wandering(), [0.05], names=["b"], in_one=True)
    averages.store(tmp_path, kept, 4)
    assert set(load_file(next(tmp_path.iterdir()))) == {"0.b"}


def test_snapshots_are_the_same_bytes_again_and_half_precision(tmp_path):
    for name in ("one", "two"):
        walk([0.05], tmp_path / name, snapshots=4)
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in first] == [f"{400 * (i + 1):012d}.safetensors" for i in range(4)]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert {tensor.dtype for tensor in load_file(first[0]).values()} == {torch.float16}


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_snapshot_is_named_in_one_line(tmp_path, content):
    (tmp_path / "000000000004.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"000000000004\.safetensors: not a snapshot") as raised:
        averages.stored(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("half_life", [0.0, 0.5, math.nan])
def test_a_length_that_cannot_be_had_is_refused(tmp_path, half_life):
    walk([0.05], tmp_path, snapshots=4)
    with pytest.raises(UserError, match="wanted a share of the images seen"):
        averages.reconstruct(averages.stored(tmp_path), half_life)


def test_no_snapshots_are_said(tmp_path):
    with pytest.raises(UserError, match="ema_snapshots"):
        averages.reconstruct(averages.stored(tmp_path), 0.05)


def test_a_snapshot_says_what_is_in_it(tmp_path):
    walk([0.05, 0.1], tmp_path, snapshots=1)
    (snapshot,) = averages.stored(tmp_path)
    assert (snapshot.seen, snapshot.half_lives) == (STEPS * BATCH, (0.05, 0.1))
