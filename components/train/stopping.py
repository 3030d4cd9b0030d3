"""Signals that ask a training to stop: recorded when they arrive, acted on between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import torch

from components.train.distributed.ranks import Group

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Signals:
    """Records SIGTERM and SIGINT inside its context; nothing outside the main thread, where Python has no handlers."""

    def __init__(self) -> None:
        self._arrived: set[int] = set()
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arrived(self) -> tuple[bool, bool]:
        """Whether SIGTERM and SIGINT have arrived at this process."""
        return signal.SIGTERM in self._arrived, signal.SIGINT in self._arrived

    def any(self) -> bool:
        """Whether one of them has arrived at this process."""
        return bool(self._arrived)

    def agreed(self, group: Group) -> int:
        """The signal to stop for, 0 for none, the same on every rank; a collective call: every rank has to make it."""
        return chosen(*group.sum(torch.tensor(self.arrived(), dtype=torch.float64)).tolist())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._arrived.add(number)


def chosen(terminate: float, interrupt: float) -> int:
    """The signal to stop for, 0 for none, given how many ranks got SIGTERM and how many SIGINT."""
    return int(signal.SIGTERM if terminate else signal.SIGINT if interrupt else 0)
