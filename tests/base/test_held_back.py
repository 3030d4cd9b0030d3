"""A signal that comes while a library runs that swallows what handlers raise is not lost."""

import os
import signal

import pytest

from components.base.stopping import SIGNALS, Stopped, held_back, stop


@pytest.fixture
def stoppable():
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_it_waits_until_the_end_and_then_stops(stoppable, number):
    done = False
    with pytest.raises(Stopped) as raised, held_back():
        os.kill(os.getpid(), number)
        done = True
    assert done and raised.value.number == number


def test_without_one_nothing_is_stopped_and_the_handlers_are_as_before(stoppable):
    with held_back():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == [stop, stop]
