"""Imports are not interrupted by the garbage collector, which works again afterwards."""

import gc
import weakref

import pytest

from components.base.processes import uncollected


class Node:
    """An object that can hold itself, and so is garbage that only the collector finds."""

    def __init__(self):
        self.itself = self


def test_nothing_is_collected_inside_nor_what_was_there_at_the_end_and_later_garbage_is():
    with pytest.raises(ImportError), uncollected():
        early = weakref.ref(Node())
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    late = weakref.ref(Node())
    gc.collect()
    assert early() is not None and late() is None
