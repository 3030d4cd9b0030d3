"""``python -m components.forking NUMBER``: run stages as forks of this process, as the socket NUMBER asks.

To start Python, import numpy, pyarrow and pydantic and parse params.yaml takes longer than all that most stages have
to do when little changed; here it is done once.  A request is a JSON line, {"stage": name, "environment": variables};
the answer is a line with the exit code, negative for the signal that ended the stage.  Each stage is a process of its
own, as it is without this one.  When the other end of the socket closes, the stage that runs is stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components import __main__ as stages
from components import pipeline
from components.base import config
from components.base.errors import UserError
from components.base.processes import die_with_parent, uncollected
from components.base.stopping import SIGNALS, ignore_signals

SHARED = ("collect", "clean", "resize", "split", "profile")
"""Whose modules are imported ahead: those of `describe` are pandas, which makes pyarrow slower for the others."""


def main(number: int) -> int:
    """Serve until the socket closes; in a fork, the exit code of its stage."""
    ignore_signals()  # the terminal's Ctrl-C is for the stage
    channel = socket.socket(fileno=number)
    with uncollected():
        for name in SHARED:
            pipeline.stage(name).function  # noqa: B018
    with contextlib.suppress(UserError):  # the stage will say it
        config.of(Path())
    with channel:
        request = _served(channel)
    if request is None:
        return 0
    os.environ.clear()
    os.environ.update(request["environment"])
    return stages.main([request["stage"]])


def _served(channel: socket.socket) -> dict[str, Any] | None:
    """Serve until the other end is closed; in a fork, at once what it was asked for."""
    for request in _requests(channel):
        child = _fork()
        if not child:
            return request
        code = _ended(child, channel)
        with contextlib.suppress(OSError):  # who asked is gone: the next line is the end
            channel.sendall(b"%d\n" % code)
    return None


def _requests(channel: socket.socket) -> Iterator[dict[str, Any]]:
    """What is asked for, until the other end is closed."""
    # It is reset where an answer was not read: whoever asked was told to stop.
    with contextlib.suppress(ConnectionResetError), channel.makefile("r", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _fork() -> int:
    """The number of a fork; 0 in the fork, which a signal ends, and the death of this process."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # this process's handlers would swallow one
    try:
        with warnings.catch_warnings():
            # Python warns where a library has threads; those of numpy's BLAS end before a fork and start again.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            die_with_parent(parent=parent)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return child


def _ended(child: int, channel: socket.socket) -> int:
    """The exit code of ``child``, which is told to stop when nobody waits for it any more."""
    ending = os.pidfd_open(child)
    try:
        with selectors.DefaultSelector() as either:
            either.register(ending, selectors.EVENT_READ)
            either.register(channel, selectors.EVENT_READ)
            if all(key.fd != ending for key, _ in either.select()):
                os.kill(child, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(ending)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
