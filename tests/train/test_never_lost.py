"""Never lose a step: killed at twenty random moments, or asked to stop at ten, a training ends in the same bytes.

Processes are forked from this one, which has torch loaded, so that twenty starts take seconds; test_train.py starts
real ones.
"""

import os
import random
import shutil
import signal
import sys
import time

import pytest
import torch
from forked import Forked, import_sharding
from safetensors.torch import load_file
from train_fixtures import DIT, contents, make_pack, tiny

from components.train import loop, stage
from components.train.distributed import ranks

MOMENTS = {signal.SIGKILL: 20, signal.SIGTERM: 10}


def rank(number, size, meeting, command, inherited):
    """In place of a fresh interpreter: a fork that follows."""

    def work():
        own = {ranks._STORE: str(meeting), ranks._RANK: str(number), ranks._SIZE: str(size)}
        os.environ.update(own | {ranks._LEADER: str(os.getppid()), ranks._SHARED: ",".join(map(str, inherited))})
        sys.argv = ["loop", *command[2:]]
        loop._follow()

    return Forked(work)


def training(folder, params, packs):
    """A forked process, leader of its own group, that trains into ``folder``."""
    pixels, splits = packs

    def work():
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        ranks._start = rank
        stage.train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")

    return Forked(work)


def left(group):
    """Processes of ``group`` that still run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stream:
                state, _, member = stream.read().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(member) == group and state != "Z":
            found.append(int(name))
    return found


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A pack, trained on once so that this process has imported all that is imported late."""
    folder = tmp_path_factory.mktemp("packs")
    pixels, splits = make_pack(folder)
    params = tiny(images=8, validations=1)
    stage.train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return pixels, splits


@pytest.mark.slow(40)
@pytest.mark.parametrize(
    ("size", "loaders", "number"),  # every two of them together, in half of the trials
    [(1, 0, signal.SIGKILL), (1, 2, signal.SIGTERM), (2, 0, signal.SIGTERM), (2, 2, signal.SIGKILL)],
)
def test_a_training_stopped_at_random_moments_ends_in_the_same_bytes(packs, tmp_path, size, loaders, number):
    params = tiny(images=480, ranks=size, loaders=loaders, checkpoint_images=24, validations=5)
    plain, stopped = tmp_path / "plain", tmp_path / "stopped"
    began = time.monotonic()
    assert training(plain, params, packs).wait() == 0
    longest = (time.monotonic() - began) / 8
    interrupted(stopped, params, packs, number, longest, MOMENTS[number])
    assert contents(stopped / "model") == contents(plain / "model")


@pytest.mark.slow(20)
def test_a_sharded_training_killed_at_random_moments_ends_in_the_same_bytes_and_learns_what_one_rank_learns(
    packs, tmp_path
):  # fmt: skip
    import_sharding()
    params = tiny(images=64, ranks=2, sharding="full", network=DIT, checkpoint_images=8, validations=2,
                  ema_half_lives=[0.06, 0.2], ema_snapshots=1, patience=5)  # fmt: skip
    plain, stopped, one = (tmp_path / name for name in ("plain", "stopped", "one"))
    began = time.monotonic()
    assert training(plain, params, packs).wait() == 0
    interrupted(stopped, params, packs, signal.SIGKILL, time.monotonic() - began, 3)
    assert contents(stopped / "model") == contents(plain / "model")
    assert training(one, params.model_copy(update={"ranks": 1}), packs).wait() == 0
    found, wanted = (load_file(next((folder / "model").glob("*/diffusion*"))) for folder in (plain, one))
    for name, weight in found.items():
        torch.testing.assert_close(weight, wanted[name], rtol=0.05, atol=4e-3, msg=name)


def interrupted(folder, params, packs, number, longest, most):
    """Train into ``folder``, with signal ``number`` within ``longest`` seconds of a start, ``most`` times."""
    while signalled(folder, params, packs, number, longest, most) < most // 2:
        shutil.rmtree(folder)  # the machine is less busy now, and the moments came too late to show anything
        longest /= 3


def signalled(folder, params, packs, number, longest, most):
    """Do that once; how often the signal came before the training's end."""
    chance, times = random.Random(), 0
    for _ in range(5 * most):
        process = training(folder, params, packs)
        time.sleep(chance.random() * longest)
        if process.poll() is not None:
            break
        os.kill(process.pid, number)
        asked = time.monotonic()
        code = process.wait()
        assert code in (-number, 128 + number, 0)
        while left(process.pid):
            assert time.monotonic() - asked < 60, "a process outlives the training that started it"
            time.sleep(0.002)
        times += code != 0
        if times == most or (folder / "model").exists():
            break
    if not (folder / "model").exists():
        assert training(folder, params, packs).wait() == 0
    return times
