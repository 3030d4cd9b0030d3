"""A checkout with two pipeline runs, for tests that break what is on record of them."""

import shutil

import pytest
from checkouts import edit, stillroom
from shared import once

from components.base import config
from flows.workspace.paths import State


@pytest.fixture(scope="session")
def two(finished, tmp_path_factory):
    """A checkout with two pipeline runs and two versions; the gate has decided on both. Not to be changed."""

    def run(place):
        folder = place / "checkout"
        shutil.copytree(finished[0], folder, symlinks=True)
        edit(folder, "report", magnify=config.read(folder / config.FILE)["report"]["magnify"] + 1)
        done = stillroom(folder, "run")
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "two", run) / "checkout"


@pytest.fixture
def here(two, tmp_path, monkeypatch):
    """A copy of it to break, as the present checkout."""
    folder = tmp_path / "checkout"
    shutil.copytree(two, folder, symlinks=True)
    state = State(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(state.folder / "dvc"))
    return state
