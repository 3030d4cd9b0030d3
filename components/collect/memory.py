"""What was found out about a file, remembered as long as its size, time and inode (or its store's mark) stay."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from components.base import files

_SETTLED = 2_000_000_000  # ns: a file changed later than this before it was read may change again unseen


class Memory:
    """File, state and findings; losing it costs time and nothing else, so no output depends on it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._old: dict[str, list] = {}
        self._new: dict[str, list] = {}
        if path is not None:
            try:
                self._old = json.loads(path.read_text("utf-8"))
                self._old = self._old if isinstance(self._old, dict) else {}
            except (OSError, ValueError):
                self._old = {}

    def recall(self, name: str, state: Sequence | None) -> list | None:
        """What was found at ``name``, unless its state is another one now (or not to be known: None)."""
        entry = self._new.get(name) or self._old.get(name)
        if state is None or not isinstance(entry, list) or len(entry) != 2 or entry[0] != list(state):
            return None
        self._new[name] = entry
        return entry[1]

    def keep(self, name: str, state: Sequence | None, found: list) -> None:
        """Remember ``found`` of ``name``; ``state`` is what it was before it was read."""
        if state is None or (isinstance(state[1], int) and time.time_ns() - state[1] <= _SETTLED):
            return
        self._new[name] = [list(state), found]

    def save(self, *, all_seen: bool) -> None:
        """Write it; with ``all_seen`` what was neither recalled nor kept is forgotten."""
        entries = self._new if all_seen else {**self._old, **self._new}
        if self._path is not None and entries != self._old:
            files.write_text(self._path, json.dumps(entries))
