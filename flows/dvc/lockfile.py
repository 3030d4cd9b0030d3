"""Write a stage into dvc.lock as DVC does, to the byte, without parsing all of it.

DVC reads the whole file with the parser that keeps comments, in Python, and writes it anew: nine tenths of what a stage
costs beside its command.  Here the text of the other stages stays as it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.base import files

_HEAD = "schema: '2.0'\nstages:\n"
_STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)


def by_parts(file: Any) -> None:
    """Have DVC's object of dvc.yaml write stages so; a dvc.lock in another form than DVC's own is left to DVC."""
    whole = file._dump_lockfile

    def dump(stages: Sequence[Any], **options: Any) -> None:
        lock = file._lockfile
        path = Path(lock.path)
        before = path.read_text("utf-8") if path.is_file() else _HEAD
        after = before
        for stage in stages:
            part = _part(stage, options)
            after = _put(after, stage.name, part) if part and _plain(after) else ""
        if not after:
            whole(stages, **options)
        elif after != before:
            files.write_text(path, after)
            lock.repo.scm_context.track_file(lock.relpath)

    file._dump_lockfile = dump


def _plain(text: str) -> bool:
    """Whether it is the head and below it nothing but stages."""
    return (
        text.startswith(_HEAD)
        and text.endswith("\n")
        and all(line.startswith("  ") for line in text[len(_HEAD) :].splitlines())
    )


def _part(stage: Any, options: dict[str, Any]) -> str:
    """The lines of ``stage`` as DVC writes them, empty where it writes something else around them."""
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize import dumps_yaml

    text: str = dumps_yaml({"schema": "2.0", "stages": dict(to_lockfile(stage, **options))})
    return text.removeprefix(_HEAD) if _plain(text) else ""


def _put(text: str, name: str, part: str) -> str:
    """``text`` with ``part`` in the place of stage ``name``, or at the end."""
    starts = [match.start() for match in _STAGE.finditer(text, len(_HEAD))]
    for at, end in itertools.pairwise([*starts, len(text)]):
        if text.startswith(f"  {name}:", at):
            return text[:at] + part + text[end:]
    return text + part
