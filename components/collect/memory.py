"""Remembers what was found out about a file until its size, time or inode (or its store's mark) changes."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.base import files

MEMORY = ".looked.json"
"""The file's name; it lies beside the folders of downloads, and no source's name begins with a dot."""
_SAVE_SECONDS = 30.0  # between two times that it is written while more comes, so that a kill costs no more
_SAVE_SHARE = 20  # and so many times as long as writing it took
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_SETTLED = 2_000_000_000  # ns: a file changed later than this before it was read may change again unseen


class Memory:
    """File, state and findings; losing it costs time and nothing else, so no output depends on it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._old: dict[str, list[Any]] = {}
        self._new: dict[str, list[Any]] = {}
        self._next = time.monotonic() + _SAVE_SECONDS
        if path is not None:
            try:
                self._old = json.loads(path.read_text("utf-8"))
                self._old = self._old if isinstance(self._old, dict) else {}
            except (OSError, ValueError):
                self._old = {}

    def recall(self, name: str, state: Sequence[object] | None) -> list[Any] | None:
        """What was found at ``name``; None when its state is another one now, or is not known (None)."""
        entry = self._new.get(name) or self._old.get(name)
        if state is None or not isinstance(entry, list) or len(entry) != 2 or entry[0] != list(state):
            return None
        self._new[name] = entry
        return entry[1]

    def keep(self, name: str, state: Sequence[object] | None, found: list[Any]) -> None:
        """Remember ``found`` of ``name``; ``state`` is what it was before it was read."""
        if state is None or (isinstance(state[1], int) and time.time_ns() - state[1] <= _SETTLED):
            return
        self._new[name] = [list(state), found]
        began = time.monotonic()
        if began >= self._next:
            self.save(all_seen=False)
            ended = time.monotonic()
            self._next = ended + max(_SAVE_SECONDS, _SAVE_SHARE * (ended - began))

    def save(self, *, all_seen: bool) -> None:
        """Write it; with ``all_seen`` forget what was neither recalled nor kept."""
        entries = self._new if all_seen else {**self._old, **self._new}
        if self._path is not None and entries != self._old:
            try:
                files.write_text(self._path, json.dumps(entries))
            except OSError as error:
                if error.errno not in _READ_ONLY:  # a look that changes nothing needs no right to write
                    raise
            self._old = entries
