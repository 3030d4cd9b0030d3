"""Whether a stage's code and parameters are still what they were when the stage began.

`dvc repro` by hand hashes them after the stage's command, so an edit in between would be recorded as what made the
outputs.  A pipeline run works from a snapshot instead (flows/dvc/snapshot.py), and need not ask.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.base import imports
from components.base.errors import UserError


class Unchanged:
    """Takes the hash of each file of components/ and what ``section`` returns, before the stage imports its code."""

    def __init__(self, module: str, section: Callable[[], Any]) -> None:
        self._module, self._section = module, section
        self._code, self._params = _code(), section()

    def check(self, stage: str) -> None:
        """Raise UserError where a file that ``module`` imports, at any depth, or the section is another one now."""
        changed = self._changed()
        if changed:
            raise UserError(
                f"{changed} changed while stage '{stage}' ran: its outputs are what the state before makes, and must "
                "not be recorded as made from this one: run it again (with `stillroom run` you can edit meanwhile)"
            )

    def _changed(self) -> str:
        try:
            if self._section() != self._params:
                return "params.yaml"
        except UserError:  # half an edit
            return "params.yaml"
        now = _code()
        others = {path for path, digest in self._code.items() if now.get(path) != digest}
        gone = others - set(now)
        if not others or gone:  # nobody's imports lead to what is gone
            return min(gone, default="")
        try:
            mine = {_shown(imports.path(name)) for name in imports.reached(self._module)}
        except SyntaxError:  # half an edit
            mine = others
        return min(others & mine, default="")


def _code() -> dict[str, str]:
    found = {}
    for path in (imports.ROOT / "components").rglob("*.py"):
        with contextlib.suppress(FileNotFoundError):  # an editor's, gone since
            found[_shown(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _shown(path: Path) -> str:
    return path.relative_to(imports.ROOT).as_posix()
