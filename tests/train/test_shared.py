"""Ranks on one machine add up vectors in memory that they share, in step and in one order."""

import os
import random
import threading
import time

import pytest
import torch

from components.train.distributed import shared


def ranks(size):
    """The sides of ``size`` ranks, here of threads in place of processes."""
    first, handles = shared.lead(size)
    others = [shared.Shared.join(f"{os.dup(memory)},{line}", at, size) for at, (memory, line) in enumerate(handles, 1)]
    return [first, *others]


def together(sides, work):
    """What ``work(side)`` gives for each of ``sides``, all at once."""
    found = {}
    threads = [threading.Thread(target=lambda side=side: found.update({side.rank: work(side)})) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[side.rank] for side in sides]


def vector(rank, turn):
    return torch.randn(1000, generator=torch.Generator().manual_seed(100 * rank + turn))


@pytest.mark.parametrize("size", [2, 3])
def test_every_rank_gets_the_same_sum_however_late_another_is(size):
    sides, turns = ranks(size), 60

    def work(side):
        late, found = random.Random(side.rank), []
        for turn in range(turns):
            time.sleep(late.choice([0, 0, 0.003]))
            numbers = vector(side.rank, turn)
            side.total(numbers)
            found.append(numbers)
        return found

    found = together(sides, work)
    for turn in range(turns):
        total = vector(0, turn)
        for rank in range(1, size):
            total = total + vector(rank, turn)
        assert all(torch.equal(each[turn], total) for each in found), turn
    for side in sides:
        side.close()


def test_a_rank_that_ends_is_told_to_the_leader():
    leader, other = ranks(2)
    other.close()
    with pytest.raises(RuntimeError, match="rank"):
        leader.total(torch.zeros(8))


def test_a_shorter_vector_is_taken_and_a_longer_one_refused():
    sides = ranks(2)
    together(sides, lambda side: side.total(torch.zeros(8)))
    short = [torch.full((3,), 1.0 + side.rank) for side in sides]
    together(sides, lambda side: side.total(short[side.rank]))
    assert all(torch.equal(each, torch.full((3,), 3.0)) for each in short)
    with pytest.raises(RuntimeError):
        sides[0].total(torch.zeros(9))
