"""The files that people edit, or merge, are read before anything is done: what cannot be read is told first."""

from __future__ import annotations

from pathlib import Path

from components.base import config
from components.base.errors import UserError
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
    table = root / "dvc.yaml"
    stages = table.read_text("utf-8") if table.is_file() else ""
    for record in (RECORD, DECISIONS):  # a project that an older package made has none before its upgrade
        if record.as_posix() in stages and not (root / record).is_file():
            what = "a folder" if (root / record).is_dir() else "not there"
            raise UserError(f"{record}: {what}, and it says what people did to the data: `git checkout {record}` "
                            "brings back what was committed")  # fmt: skip
    withdrawn.names(root / RECORD)
    decisions.read(root / DECISIONS)
