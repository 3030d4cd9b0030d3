"""What several tests of stage `collect` stand on."""

import fsspec
import pytest


@pytest.fixture
def memory():
    """An empty store in memory, as fsspec has it."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()
