"""A checkout with two pipeline runs, for tests that break what is on record of them."""

import shutil

import pytest

from flows.workspace.paths import State


@pytest.fixture
def here(two, tmp_path, monkeypatch):
    """A copy of it to break, as the present checkout."""
    folder = tmp_path / "checkout"
    shutil.copytree(two, folder, symlinks=True)
    state = State(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(state.folder / "dvc"))
    return state
