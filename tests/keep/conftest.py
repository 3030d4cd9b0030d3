"""A checkout with two pipeline runs and two versions, for tests that keep house in it."""

import pytest
from registered import copied


@pytest.fixture
def lived_in(two, tmp_path, monkeypatch):
    """A copy of it to change, as the present checkout."""
    return copied(two, tmp_path / "checkout", monkeypatch)
