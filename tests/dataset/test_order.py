"""What an image meets in training is a function of the seed and its place, and nothing else."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_fixtures import tiny

from components.dataset import counters, order, tensors
from components.diffusion import conditions
from components.train import feed
from components.train.distributed.ranks import Group

ROOT = Path(__file__).resolve().parents[2]
ALONE = Group(0, 1, torch.device("cpu"))


@settings(max_examples=30)
@given(seed=st.integers(0, 99), count=st.integers(1, 300), start=st.integers(0, 10**12))
def test_each_pass_shows_every_image_once(seed, count, start):
    first = start - start % count
    seen = order.positions(seed, torch.arange(first, first + 3 * count), count)
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_every_order_of_a_few_images_is_as_likely():
    """Chi-square over 40,000 passes of five images: 119 degrees of freedom, so 119 +- 15.4."""
    passes, count = 40_000, 5
    shown = order.positions(1, torch.arange(passes * count), count).view(passes, count)
    _, times = (shown * torch.tensor([625, 125, 25, 5, 1])).sum(1).unique(return_counts=True)
    expected = passes / 120
    assert len(times) == 120
    assert 60 < float((times - expected).square().sum() / expected) < 180


def plan(batch, count=33, seed=0):
    return order.DrawPlan(seed=seed, batch=batch, count=count, label_dropout=0.3)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), step=st.integers(0, 10**6), batch=st.sampled_from([2, 4, 5, 8, 20]))
def test_draws_depend_on_seed_and_place_alone_and_cover_the_schedule(seed, step, batch):
    one, two = (plan(batch, seed=seed).at(step * batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert one.places.tolist() == list(range(step * batch, step * batch + batch))
    assert sorted((one.share.double() * batch).long().tolist()) == list(range(batch)), "one in each part"
    assert one.share.min() >= 0 and one.share.max() < 1


def test_an_image_meets_the_same_noise_in_whatever_batch_it_is_drawn():
    places = torch.arange(2**40, 2**40 + 23)
    for shape in ((3, 8, 8), (1, 5, 5), (3, 32, 32), (3, 64, 64)):
        whole = counters.normal(0, places, shape)
        assert whole.shape == (23, *shape)
        for first, last in ((0, 1), (5, 12), (22, 23)):
            assert torch.equal(counters.normal(0, places[first:last], shape), whole[first:last])
    other = counters.normal(0, places + 1, (1, 5, 5))
    assert torch.equal(other[:-1], counters.normal(0, places, (1, 5, 5))[1:])
    assert not torch.equal(counters.normal(1, places, (1, 5, 5))[1:], other[:-1])


def test_no_image_has_no_noise():
    assert counters.normal(3, torch.zeros(0, dtype=torch.int64), (3, 5, 7)).shape == (0, 3, 5, 7)


def test_the_noise_is_normal():
    noise = counters.normal(3, torch.arange(400), (3, 32, 32)).double().flatten()
    ordered, wanted = noise.sort().values, (torch.arange(len(noise)).double() + 0.5) / len(noise)
    distance = (torch.special.ndtr(ordered) - wanted).abs().max()
    assert distance < 1.63 / len(noise) ** 0.5, "Kolmogorov-Smirnov at 1 %"
    assert noise.pow(4).mean() == pytest.approx(3, abs=4 * (96 / len(noise)) ** 0.5)
    table = noise.view(400, 3072)
    assert (table[:, 1:] * table[:, :-1]).mean().abs() < 4 / len(noise) ** 0.5
    assert (table[1:] * table[:-1]).mean().abs() < 4 / len(noise) ** 0.5


def test_philox_gives_what_its_authors_print():
    """Random123's known answers (kat_vectors) of philox4x32-10."""
    for counter, key, wanted in (
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ):  # fmt: skip
        found = counters.philox(tuple(torch.tensor(word) for word in counter), key)
        assert " ".join(f"{int(word):08x}" for word in found) == wanted


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_ranks_share_a_batch_and_each_draws_its_part_alone(packs, ranks):
    params = tiny(batch=16, ranks=ranks)
    pixels, rows = tensors.Pixels(packs[0]), torch.arange(33)
    (whole,) = [feed.Feed(params, pixels, rows, ALONE).batch(160)]
    parts = [feed.Feed(params, pixels, rows, Group(rank, ranks, ALONE.device)).batch(160) for rank in range(ranks)]
    for name in feed.Batch._fields:
        wanted = getattr(whole, name)
        if wanted is None:  # nothing is augmented
            assert all(getattr(part, name) is None for part in parts)
        elif name == "condition":
            assert torch.equal(conditions.joined([part.condition for part in parts])["label"], wanted["label"])
        else:
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), wanted), name


def test_rows_of_several_shards_are_gathered_in_the_order_asked_for(tmp_path):
    from components.samples import pack, spec

    blobs = [bytes([i] * 12) for i in range(10)]
    keys = [f"{i:064x}" for i in range(10)]
    pack.write(tmp_path, blobs, keys=keys, classes=(), class_ids=[-1] * 10, spec=spec.image((3, 2, 2)),
               shard_bytes=36)  # fmt: skip
    rows = [9, 0, 3, 2, 3]
    assert tensors.Pixels(tmp_path).gather(rows)[:, 0, 0, 0].tolist() == rows


@given(st.lists(st.integers(0, 255), min_size=12, max_size=12))
def test_pixels_survive_the_way_to_the_network_and_back(values):
    image = torch.tensor(values, dtype=torch.uint8).view(1, 2, 2, 3)
    assert torch.equal(tensors.to_pixels(tensors.to_network(image)), image)


def test_the_learning_rate_rises_stays_and_falls():
    params = tiny(images=800, batch=8, warmup_images=80, constant_until=0.5, final_rate=0.01, learning_rate=1.0)
    rates = [params.rate(8 * step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:51] == [1.0] * 41
    assert rates[75] == pytest.approx(1 - 0.99 / 2)
    assert rates[99] == pytest.approx(0.01 + 0.99 * 0.02)
