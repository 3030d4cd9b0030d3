"""Images in groups: each batch is of one group, every image is shown alike often, and a place says it all."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset import order

BATCHES = st.sampled_from([1, 2, 4, 5, 8, 64])


@st.composite
def orders(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    members = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    groups = list(members.split(sizes))
    return order.of_groups(draw(st.integers(0, 99)), draw(BATCHES), groups), groups


def shown(found, steps):
    return found.positions(torch.arange(steps * found.batch)).view(steps, found.batch)


def group_of(groups):
    kinds = torch.empty(sum(map(len, groups)), dtype=torch.int64)
    for number, group in enumerate(groups):
        kinds[group] = number
    return kinds


@settings(max_examples=15)
@given(orders(), st.integers(1, 60))
def test_each_batch_is_of_one_group_and_every_image_is_shown_alike_often(world, steps):
    found, groups = world
    places = shown(found, steps)
    kinds = group_of(groups)[places]
    assert (kinds == kinds[:, :1]).all()
    times = torch.bincount(places.flatten(), minlength=found.count)
    for number, group in enumerate(groups):
        had = int((kinds[:, 0] == number).sum())
        # For an epoch of its own that is not over, and for batches of this epoch that come out of turn, at either end.
        assert int(times[group].max() - times[group].min()) <= 3
        # Within an epoch of the whole the batches of all groups are shuffled, so one epoch more or less, and a half.
        share = steps * len(group) / found.count
        assert abs(had - share) <= len(group) / found.batch + len(groups) + 1
    assert found.steps(steps) == torch.bincount(kinds[:, 0], minlength=len(groups)).tolist()


@settings(max_examples=15)
@given(orders())
def test_a_group_is_gone_through_epoch_by_epoch_and_nothing_is_left_out(world):
    found, groups = world
    steps = 12 * (1 + found.count // found.batch)
    places = shown(found, steps)
    kinds = group_of(groups)[places[:, 0]]
    for number, group in enumerate(groups):
        times = torch.bincount(places[kinds == number].flatten(), minlength=found.count)[group]
        had = int((kinds == number).sum()) * found.batch
        whole = had - found.batch * (1 + found.count // found.batch)  # but for batches of the last epoch's order
        assert int(times.sum()) == had
        if whole >= len(group):
            assert int(times.min()) >= 1, "an image that is never shown"


@settings(max_examples=15)
@given(orders(), st.integers(0, 10**6))
def test_what_is_shown_at_a_place_depends_on_it_alone(world, step):
    found, _ = world
    around = torch.arange(step * found.batch, (step + 3) * found.batch)
    whole = found.positions(around)
    for at in range(3):
        part = slice(at * found.batch, (at + 1) * found.batch)
        assert torch.equal(found.positions(around[part]), whole[part])
    assert torch.equal(found.positions(around.flip(0)), whole.flip(0))


def test_after_each_epoch_of_the_whole_all_groups_have_had_their_share_to_half_a_batch():
    groups = list(torch.arange(30).split([17, 9, 3, 1]))
    found = order.of_groups(0, 8, groups)
    for epochs in (1, 2, 7, 40):
        had = [round(epochs * len(group) / 8) for group in groups]
        steps = sum((2 * epochs * len(group) + 8) // 16 for group in groups)
        assert all(abs(one - other) <= 1 for one, other in zip(found.steps(steps), had, strict=True))


def test_images_of_one_shape_keep_the_order_that_they_had():
    places = torch.arange(500)
    assert torch.equal(
        order.of_groups(7, 8, [torch.arange(33)]).positions(places), order.positions(7, places, 33)
    )  # fmt: skip
    assert order.of_groups(7, 8, [torch.arange(33)]).steps(9) == [9]


def test_where_batches_come_out_even_each_epoch_shows_every_image_once_and_in_another_order():
    groups = list(torch.randperm(80).split([16, 40, 24]))
    found = order.of_groups(5, 8, groups)
    epochs = found.positions(torch.arange(10 * 80)).view(10, 80)
    assert (epochs.sort(dim=1).values == torch.arange(80)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 10
    kinds = group_of(groups)[epochs[:, ::8]]
    assert len({tuple(epoch) for epoch in kinds.tolist()}) > 5, "the batches of all groups are shuffled"
    batches = {frozenset(batch) for batch in epochs.view(-1, 8).tolist()}
    assert len(batches) == 100, "which images are beside each other changes from epoch to epoch"
