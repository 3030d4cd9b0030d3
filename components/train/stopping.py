"""Signals that ask a training to stop: noted when they come, answered where it can stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

import torch

from components.train.distributed.ranks import Group


class Signals:
    """SIGTERM and SIGINT to this process while the context lasts; in another thread than the main one, none."""

    def __init__(self) -> None:
        self._arrived: set[int] = set()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arrived(self) -> tuple[bool, bool]:
        """Whether SIGTERM and SIGINT have come."""
        return signal.SIGTERM in self._arrived, signal.SIGINT in self._arrived

    def agreed(self, group: Group) -> int:
        """The signal to stop for, 0 for none, the same on every rank; all of them have to ask."""
        return chosen(*group.sum(torch.tensor(self.arrived(), dtype=torch.float64)).tolist())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._arrived.add(number)


def chosen(terminate: float, interrupt: float) -> int:
    """The signal to stop for, from how many ranks got each."""
    return int(signal.SIGTERM if terminate else signal.SIGINT if interrupt else 0)
