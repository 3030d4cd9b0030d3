"""Results in order, whatever the workers do."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkouts import python_path

from components.base import parallel, workers
from components.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def slow_first(batch):
    """Later batches are done before the first one."""
    time.sleep(0.3 if batch[0] == 0 else 0)
    return [(item, os.getpid()) for item in batch]


def deadly(batch):
    """A decoder that crashes on one item."""
    if 13 in batch:
        os.kill(os.getpid(), signal.SIGSEGV)
    return [item * 10 for item in batch]


def bulky(batch):
    """Results that do not fit in a pipe: a worker is always in the middle of handing one over."""
    return [bytes(2**22) for _ in batch]


def wrong(batch):
    raise KeyError(batch[0])


def not_to_be_sent(batch):
    """A result that no pipe takes: pickle knows no function without a name."""
    return [lambda: 0 for _ in batch]


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 2)


def in_batches(count, size=2):
    return (list(range(at, min(at + size, count))) for at in range(0, count, size))


def test_results_come_in_order_from_other_processes(two_workers):
    found = [pair for batch in parallel.ordered(slow_first, in_batches(30)) for pair in batch]
    assert [item for item, _ in found] == list(range(30))
    assert os.getpid() not in {process for _, process in found}


def test_one_batch_and_one_core_have_a_process_of_their_own_too(monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    for count in (1, 3):
        found = {process for batch in parallel.ordered(slow_first, in_batches(2 * count)) for _, process in batch}
        assert len(found) == 1 and os.getpid() not in found
    assert list(parallel.ordered(slow_first, [])) == []


def lost(item, loss):
    return f"{item}: {loss.why}" + (", says the machine" if loss.by_machine else "")


def run(function, batches):
    return [result for batch in parallel.ordered(function, batches, lost=lost) for result in batch]


@pytest.mark.timeout(120)
def test_an_item_that_kills_its_worker_is_told_and_the_others_are_done(two_workers):
    wanted = [f"{n}: the decoder crashed (SIGSEGV)" if n == 13 else n * 10 for n in range(40)]
    assert run(deadly, in_batches(40)) == wanted


def killed(batch):
    """Somebody kills the worker at item 3, as often as the folder's name says."""
    folder, items = Path(batch[0][0]), [item for _, item in batch]
    if 3 in items and len(list(folder.iterdir())) < int(folder.name):
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return items


@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", [0, 1, pytest.param(2, marks=pytest.mark.slow(2)), 3])
def test_who_is_killed_is_tried_again_alone_and_only_then_given_up(tmp_path, two_workers, times):
    folder = tmp_path / str(times)
    folder.mkdir()
    batches = [[(str(folder), item) for item in batch] for batch in in_batches(8)]
    third = 3 if times < 1 + workers.TRIES else f"{(str(folder), 3)}: {workers._KILLED.why}, says the machine"
    assert run(killed, batches) == [0, 1, 2, third, 4, 5, 6, 7]
    assert len(list(folder.iterdir())) == min(times, 1 + workers.TRIES)


def endless(batch):
    """A decoder that never ends on one item."""
    while 3 in batch:
        pass
    return list(batch)


def waiting(batch):
    """A decoder that waits for something that never comes."""
    if 3 in batch:
        time.sleep(60)
    return list(batch)


def greedy(batch):
    """A decoder that wants more memory than it may have."""
    return [len(bytearray(2**30 if item == 3 else 10)) for item in batch]


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_an_item_that_takes_too_long_is_told_and_the_others_are_done(monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    monkeypatch.setattr(workers, "allowed", lambda batch: 0.6)
    assert run(endless, in_batches(6)) == [0, 1, 2, "3: out of time: more than 1 seconds, says the machine", 4, 5]
    monkeypatch.setattr(workers, "TRIES", 1)
    monkeypatch.setattr(workers, "WAITING", 1.0)  # by the clock: on a busy machine the others could take as long
    assert run(waiting, [[3]]) == ["3: out of time: more than 1 seconds, says the machine"]


def test_time_grows_with_the_items_and_their_bytes():
    one, two = [(bytes(10**6), "x")], [(bytes(10**6), "x")] * 2
    assert workers.SECONDS + 1 < workers.allowed(one) < workers.allowed(two) < 2 * workers.allowed(one)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process in this way")
def test_an_item_that_wants_too_much_memory_is_told_and_the_others_are_done(monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    monkeypatch.setattr(workers, "MEMORY", 2**28)
    found = run(greedy, in_batches(6))
    assert found[3].startswith("3: out of memory") and found[:3] + found[4:] == [10] * 5


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_one_line_when_nothing_can_stand_for_it(two_workers):
    with pytest.raises(UserError, match="worker process died"):
        list(parallel.ordered(deadly, in_batches(40)))


def test_an_error_in_a_worker_is_the_same_error_here(two_workers):
    with pytest.raises(KeyError):
        list(parallel.ordered(wrong, in_batches(8)))


def test_a_result_that_cannot_be_sent_is_an_error_and_no_lost_image(two_workers):
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"(?i)pickle|local object"):
        run(not_to_be_sent, in_batches(8))


def test_few_batches_are_read_ahead(two_workers):
    read = []

    def batches():
        for at in range(100):
            read.append(at)
            yield [at]

    results = parallel.ordered(slow_first, batches())
    next(results)
    assert len(read) <= 8
    results.close()


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_run_that_is_left_in_the_middle_ends_at_once(two_workers):
    for _ in range(3):
        results = parallel.ordered(bulky, in_batches(100))
        next(results)
        results.close()
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_batches_end_at_a_count_and_at_a_size():
    items = [(bytes(10), "x")] * 5
    assert [len(batch) for batch in parallel.batched(items, count=2)] == [2, 2, 1]
    assert [len(batch) for batch in parallel.batched(items, size=25)] == [3, 2]
    assert list(parallel.batched([])) == []


SLEEPERS = """
import os, sys, time
sys.path.insert(0, "tests")
from components.base import parallel
import sleepers
if __name__ == "__main__":
    parallel.workers = lambda: 2
    list(parallel.ordered(sleepers.sleep, ([n] for n in range(9))))
"""
SLEEP = """
import os, pathlib, sys, time
def sleep(batch):
    pathlib.Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel for a signal on the parent's death")
def test_workers_do_not_outlive_a_killed_stage(tmp_path):
    (tmp_path / "main.py").write_text(SLEEPERS)
    (tmp_path / "sleepers.py").write_text(SLEEP)
    pids = tmp_path / "pids"
    pids.mkdir()
    environment = os.environ | {"PIDS": str(pids), "PYTHONPATH": python_path(ROOT, tmp_path)}
    stage = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=environment)
    try:
        until(lambda: len(list(pids.iterdir())) == 2)
    finally:
        stage.kill()
        stage.wait()
    until(lambda: not any(alive(int(path.name)) for path in pids.iterdir()))


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
