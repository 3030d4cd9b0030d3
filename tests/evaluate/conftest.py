"""What the tests of stage evaluate share."""

import pytest
from train_fixtures import make_pack, tiny

from components.base import processes
from components.train.stage import train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(pixels, splits, model) of a tiny training."""
    folder = tmp_path_factory.mktemp("made")
    pixels, splits = make_pack(folder)
    train(tiny(), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return pixels, splits, folder / "model"


@pytest.fixture
def alone(monkeypatch):
    """All in this process: no time is spent on starting others."""
    monkeypatch.setattr(processes, "cores", lambda: 1)
