"""Groups are called by their first member, and equal names are found without an object for each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.base.grouping import Groups, founders


@given(st.lists(st.integers(0, 5), max_size=40), st.sampled_from(["zeros at the end", "zeros in front"]))
def test_the_founder_is_the_first_of_those_that_are_equal(numbers, where):
    order = "little" if where == "zeros at the end" else "big"
    names = [number.to_bytes(32, order) for number in numbers]
    digests = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 32)
    assert founders(digests).tolist() == [names.index(name) for name in names]
    assert founders(np.frombuffer(b"".join(names), "V32")).tolist() == founders(digests).tolist()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_a_group_is_called_by_its_smallest_member(pairs):
    groups = Groups(10)
    groups.join_all(pairs)
    assert all(groups.founder(member) <= member for member in range(10))
    assert all(groups.founder(one) == groups.founder(other) for one, other in pairs)
