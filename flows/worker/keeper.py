"""Keeper: says on the shelf that somebody works on a task, and keeps its checkpoints there, for whoever goes on.

Both happen beside the training, which neither waits for the remote nor stops because of it.  A checkpoint is named by
what is in it and is verified when it is read (components/train/checkpoint.py), so nothing here has to be believed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from components.base import files
from components.base.errors import UserError
from flows.dvc.shelf import RemoteGone, Shelf
from flows.worker.task import Task

BEAT = 10.0
"""Seconds between two signs of life."""
LOST = 60.0
"""Seconds without one after which a worker counts as gone; more than a network that is away for half a minute."""
_LOOK = 2.0  # seconds between two looks for a new checkpoint
_NAME = re.compile(r"[0-9a-f]{16}(/\w[\w.-]*){1,4}")
"""A file of a training, below the folder of its key."""
_CHECKPOINT = re.compile(r"[0-9a-f]{16}/(\d{12}-[0-9a-f]{16})(\.pt|/.*)")


class Keeper:
    """Who works on ``task``, as flow run ``run``, with checkpoints in ``folder``; use as a context manager."""

    def __init__(self, shelf: Shelf, task: Task, folder: Path, run: str, say: Callable[[str], None]) -> None:
        self.shelf, self.task, self.folder, self.run, self.say = shelf, task, folder, run, say
        self.overtaken = False
        """Whether somebody else works on it by now: this worker was taken for dead."""
        self._beats = 0
        self._sent: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()
        self._one = threading.Lock()
        self._troubled = False

    def claim(self) -> bool:
        """Take the task, once nobody else works on it; False when it has a result by then."""
        last, since = b"", time.monotonic()
        while True:
            held = self.shelf.read(self.task.working)
            if self.shelf.read(self.task.result) is not None:
                return False
            if held is None or _run(held) == self.run or time.monotonic() - since >= LOST:
                self._beat()
                return True
            if held != last:
                if last == b"":
                    self.say(f"flow run {_run(held)} works on it: waiting for it, or for it to be gone")
                last, since = held, time.monotonic()
            time.sleep(min(_LOOK, LOST / 4))

    def restore(self) -> int:
        """Fetch the checkpoints that are on the shelf and not here; how many files."""
        with self._one:
            found = sorted(name for name in self.shelf.names(self.task.checkpoints) if _NAME.fullmatch(name))
            lacking = [name for name in found if not (self.folder / name).exists()]
            for name in lacking:
                with files.replacing(self.folder / name) as beside:
                    self.shelf.fetch(f"{self.task.checkpoints}/{name}", beside)
            self._sent = {name: _stamp(self.folder / name) for name in found}
        return len(lacking)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._every, args=each, daemon=True)
                         for each in ((BEAT, self._alive), (_LOOK, self.keep))]  # fmt: skip
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Whatever ended the work: what it has saved goes to the shelf, and the task is free for others."""
        self._over.set()
        if kind is not None and not self.overtaken:
            self._try(self.keep)
        for thread in self._threads:
            thread.join(timeout=5)
        if not self.overtaken:
            self._try(lambda: self.shelf.remove(self.task.working))

    def keep(self) -> None:
        """Copy to the shelf what it does not have yet, and take away what the training has replaced."""
        with self._one:
            here = self._here()
            for name in sorted(here, key=_order):
                if self._sent.get(name) == here[name]:
                    continue
                with contextlib.suppress(FileNotFoundError):  # replaced by a newer one meanwhile
                    self.shelf.send(self.folder / name, f"{self.task.checkpoints}/{name}")
                    self._sent[name] = here[name]
            # The training removes all of them when its model is in place, which nobody else has yet.
            if any(map(_CHECKPOINT.fullmatch, here)):
                for name in [*self._sent.keys() - here.keys()]:
                    self.shelf.remove(f"{self.task.checkpoints}/{name}")
                    del self._sent[name]

    def forget(self) -> None:
        """Take all checkpoints off the shelf: the result is there."""
        for name in self.shelf.names(self.task.checkpoints):
            self.shelf.remove(f"{self.task.checkpoints}/{name}")

    def _here(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self.folder.rglob("*") if self.folder.is_dir() else ():
            name = path.relative_to(self.folder).as_posix()
            if _NAME.fullmatch(name) and files.BESIDE not in name:
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file():
                        found[name] = _stamp(path)
        return found

    def _alive(self) -> None:
        held = self.shelf.read(self.task.working)
        if held is None or _run(held) != self.run:
            self.overtaken = True
            self._over.set()
            self.say("this worker was taken for gone, and the task was given to another: it stops")
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._beat()

    def _beat(self) -> None:
        self._beats += 1
        said = {"run": self.run, "beat": self._beats}
        self.shelf.write(self.task.working, json.dumps(said).encode())

    def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        while not self._over.wait(seconds):
            self._try(work)

    def _try(self, work: Callable[[], Any]) -> None:
        try:
            work()
            self._troubled = False
        except (UserError, OSError) as error:
            if not self._troubled:  # once, not each time while the network is gone
                self.say(f"{error}; tried again")
            self._troubled = True


def alive(shelf: Shelf, task: Task) -> bytes | None:
    """What a worker says of itself, another text as long as it lives; None when nobody works on ``task``."""
    return shelf.read(task.working)


def _run(held: bytes) -> str:
    try:
        return str(json.loads(held)["run"])[:100]
    except (ValueError, KeyError, TypeError):
        return "?"


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _order(name: str) -> tuple[int, int, str]:
    """What a checkpoint needs beside it first, then the newest checkpoint, then older ones."""
    found = _CHECKPOINT.fullmatch(name)
    return (1, -int(found[1][:12]), name) if found else (0, 0, name)


__all__ = ["BEAT", "LOST", "Keeper", "RemoteGone", "alive"]
