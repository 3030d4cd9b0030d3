"""The files that people edit, or merge, are read before anything is done: what cannot be read is told first."""

from __future__ import annotations

from pathlib import Path

from components.base import config
from components.samples import withdrawn
from flows.dvc import engine

RECORD = Path("data/withdrawn.jsonl")


def check(root: Path) -> None:
    """UserError, in one line with its place, for a params.yaml, dvc.lock or record of withdrawn images that is none."""
    config.of(root)
    engine.lock(root)
    withdrawn.names(root / RECORD)
