"""A checkout with two pipeline runs, for tests that break what is on record of them."""

import pytest
from registered import copied


@pytest.fixture
def here(two, tmp_path, monkeypatch):
    """A copy of it to break, as the present checkout."""
    return copied(two, tmp_path / "checkout", monkeypatch)
