"""What the tests of mirrors and of buckets begin with."""

import pytest
from mirrors import FILES, OLDER, mirror


@pytest.fixture
def registry(tmp_path):
    """A registry of two versions, the second with the alias."""
    (tmp_path / "registry").mkdir()
    return mirror(tmp_path / "registry", OLDER, FILES)
