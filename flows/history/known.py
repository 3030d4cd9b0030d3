"""The history of a checkout as one command reads it: once, whatever looks at it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.history import decisions, ledger, store
from flows.history.decisions import Decided
from flows.history.ledger import Kind, Record
from flows.history.store import PipelineRun


class History:
    """What is on record: read at the first look, and from then on with what this object adds, not what others do.

    To read needs no lock: records are never changed.  Who decides is alone in the repository before it reads
    (flows/registry/settle.py); what two machines decide meets in MLflow's alias, which is compared before it is moved.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cached_property
    def records(self) -> list[Record]:
        """Every record, oldest first."""
        return store.records(self.root)

    @functools.cached_property
    def runs(self) -> list[PipelineRun]:
        """Every pipeline run on record or in a commit, oldest first, each key once."""
        return store.all_runs(self.root, self.records)

    def run(self, key: str | None) -> PipelineRun | None:
        """The pipeline run ``key``, or None."""
        return next((run for run in self.runs if run.key == key), None)

    def decided(self, name: str) -> list[Decided]:
        """The decisions about the registered model ``name``, in the order in which they ended."""
        return decisions.all_of(self.records, name)

    def append(self, kind: Kind, key: str, body: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> Record:
        """Write a record after all that are known."""
        return self._with(ledger.append(self.root, self.records, kind, key, body, files))

    def record(self, run: PipelineRun) -> None:
        """Put ``run`` on record, unless its last record says the same."""
        made = store.record(self.root, run, self.records)
        if made:
            self._with(made)

    def _with(self, made: Record) -> Record:
        self.records = ledger.ordered([*self.records, made])
        self.__dict__.pop("runs", None)
        return made
