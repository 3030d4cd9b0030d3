"""Ctrl-C and SIGTERM as an exception, by which a process ends in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """One of SIGNALS arrived, ``number`` says which; not an Exception, so that no stage takes it for a bad image."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Raise Stopped: the handler of a signal."""
    ignore_signals()  # a second one would end the ending
    raise Stopped(number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until the end: for calls into libraries that swallow what a handler raises.

    Not by the thread's mask: where a library has threads, the kernel gives the signal to one of those.
    """
    caught: list[int] = []
    before = {number: signal.signal(number, lambda given, frame: caught.append(given)) for number in SIGNALS}
    try:
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
    for number in caught[:1]:
        signal.raise_signal(number)


def ignore_signals() -> None:
    """Ignore Ctrl-C and SIGTERM from here on: this process ends as the first of them asked."""
    for number in SIGNALS:
        signal.signal(number, _ignore)  # not SIG_IGN, which programs that are started from here would inherit


def _ignore(number: int, frame: FrameType | None) -> None:
    pass
