"""Files that are rendered from the code and committed: write them, or say whether they are current."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.base import files


def write_or_check(path: Path, text: str, arguments: Sequence[str]) -> int:
    """Write ``text`` to ``path``; with ``--check`` only compare them, exit code 1 when they differ."""
    if "--check" not in arguments:
        files.write_text(path, text)
        return 0
    current = path.is_file() and path.read_text("utf-8") == text
    print(f"{path.name} is current" if current else f"{path.name} is out of date: run `make dvc` and commit it")
    return 0 if current else 1
