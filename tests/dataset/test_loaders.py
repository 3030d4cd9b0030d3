"""Loader processes: the same images as without them, in any order asked for; a death is one line."""

import os
import signal

import pytest
import torch
from train_fixtures import make_pack, tiny

from components.base.errors import UserError
from components.dataset import tensors
from components.samples import pack
from components.samples.spec import SampleSpec
from components.train import feed
from components.train.distributed.ranks import Group

ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture
def fed(tmp_path):
    """(a feed without loaders, one with two)."""
    pixels = tensors.Pixels(make_pack(tmp_path)[0])
    pair = [feed.Feed(tiny(loaders=count), pixels, torch.arange(40), ALONE) for count in (0, 2)]
    yield pair
    pair[1].close()


def test_two_loaders_give_the_bytes_of_none_whatever_is_asked_for(fed):
    plain, ahead = fed
    places = [0, 8, 16, 24, 80, 88, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 0]  # jumps over a window, and back
    for place in places:
        assert torch.equal(ahead.batch(place).image, plain.batch(place).image), place


def test_loaders_widen_numbers_of_any_dtype_and_rank_as_the_feed_does(tmp_path):
    one = SampleSpec(kind="clip", shape=(2, 3, 4, 5), dtype="f16", scale=0.5, shift=1.0, sigma_data=1.0)
    stored = torch.randn(20, *one.stored_shape, generator=torch.Generator().manual_seed(2)).half()
    pack.write(tmp_path, [stored.numpy().tobytes()], spec=one, keys=["00" * 32] * 20, classes=(), class_ids=[-1] * 20)
    pixels = tensors.Pixels(tmp_path)
    plain, ahead = (feed.Feed(tiny(loaders=count), pixels, torch.arange(20), ALONE) for count in (0, 1))
    try:
        for place in (0, 8, 64):
            batch = plain.batch(place)
            assert torch.equal(ahead.batch(place).image, batch.image)
            wanted = stored[plain.rows_at(place, place + 8)].float().movedim(-1, 1) * 0.5 + 1
            assert torch.allclose(batch.image, wanted)
            assert batch.noise.shape == batch.image.shape == (8, 2, 3, 4, 5)
    finally:
        ahead.close()


def test_what_follows_may_be_told(fed):
    plain, ahead = fed
    for place, then in ((0, 80), (80, 88), (88, 160), (160, None)):
        assert torch.equal(ahead.batch(place, then).image, plain.batch(place).image)


def test_no_more_than_two_batches_a_process_are_gathered_ahead(fed):
    ahead = fed[1]
    ahead.batch(0)
    assert len(ahead._loaders._asked) == 3
    ahead.batch(8)
    assert [place for _, place in ahead._loaders._asked] == [16, 24, 32]


def test_a_loader_that_dies_is_one_clear_line(fed):
    ahead = fed[1]
    ahead.batch(0)
    os.kill(ahead._loaders._workers[1][0], signal.SIGKILL)
    with pytest.raises(UserError, match=r"loader 1 of train.loaders ended with code -9 .*run it again"):
        for place in range(8, 80, 8):
            ahead.batch(place)


def test_closed_they_are_gone(fed):
    ahead = fed[1]
    processes = [worker[0] for worker in ahead._loaders._workers]
    ahead.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
