"""The files that people edit, or merge, are read before anything is done: what cannot be read is told first."""

from __future__ import annotations

from pathlib import Path

from components.base import config
from components.samples import decisions, withdrawn
from flows.dvc import engine

RECORD = Path("data/withdrawn.jsonl")
DECISIONS = Path("data/decisions.jsonl")


def check(root: Path) -> None:
    """UserError, in one line with its place, for what cannot be read.

    It looks at params.yaml, dvc.lock, and the records of withdrawn images and of curators' decisions.
    """
    config.of(root)
    engine.lock(root)
    withdrawn.names(root / RECORD)
    decisions.read(root / DECISIONS)
