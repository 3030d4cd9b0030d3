"""Call: the controller's side of a stage on a worker: ask, wait, notice who is gone, check what came, take it over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from prefect.client.schemas.objects import StateType

from components.base.errors import UserError
from components.base.stopping import Stopped
from flows.dvc import apart
from flows.dvc.faults import StageFailed
from flows.dvc.shelf import RemoteGone, Shelf
from flows.history import elsewhere
from flows.registry.metrics import MetricStream
from flows.worker import keeper, order, task, work
from flows.worker.prefects import Asked, Away, Pool
from flows.worker.task import PASSING, Result, Task

TRIES = 5
"""How many workers may be lost until the run gives up."""
_LOOK, _LOOK_AT_SHELF = 2.0, 10.0  # seconds between two questions to Prefect, and to the remote
_PATIENCE = 60.0  # seconds after which it is said that no worker has taken it
Say = Callable[[str], None]


def brought(root: Path, stage: str, where: str, *, force: bool, metrics: MetricStream | None, say: Say) -> str:
    """Bring ``stage`` up to date on a worker of pool ``where``: ``executed``, ``restored`` or ``unchanged``.

    ``restored``: a worker has done it before.  UserError, and nothing is taken over, where what it hands back is not
    what was asked for, or not what it says.
    """
    if not force and not apart.is_stale(root, stage):
        return "unchanged"
    shelf, wanted = apart.shelf(root), order.order(root, stage)
    if force:
        shelf.remove(wanted.result)
    made, how = work.found(shelf, wanted), "restored"
    if made is None:
        made, how = _Call(wanted, shelf, Pool(where), say).made(), "executed"
    take_over(root, wanted, made)
    if metrics and made.mlflow:
        metrics.take_over(made.mlflow, wanted.inputs)
    with contextlib.suppress(UserError):
        order.forget(root, wanted)
    return how


def take_over(root: Path, wanted: Task, made: Result) -> None:
    """Check what a worker made, to the byte, and put it on record as if it had been made here."""
    now = task.digest(wanted.stage, apart.inputs(root, wanted.stage))
    if (made.inputs, made.stage) != (wanted.inputs, wanted.stage) or now != wanted.inputs:
        raise UserError(f"stage '{wanted.stage}': the result is of other inputs than lie here: run this again")
    try:
        apart.adopt(root, wanted.stage, made.hashes, made.texts)
    except UserError as error:
        if isinstance(error, RemoteGone):
            raise
        raise UserError(
            f"the result of stage '{wanted.stage}' from a worker is not what it says: {error}: nothing of it "
            f"is used; remove stillroom/{wanted.result} in DVC's remote and run this again"
        ) from error
    elsewhere.note(root, {"libraries": made.libraries, "machine": made.machine})


class _Call:
    """Waiting for one task, through as many workers as it takes."""

    def __init__(self, wanted: Task, shelf: Shelf, where: Pool, say: Say) -> None:
        self.task, self.shelf, self.pool, self.say = wanted, shelf, where, say
        self._beat: bytes | None = None
        self._since = self._began = time.monotonic()
        self._looked = 0.0
        self._told: set[str] = set()

    def made(self) -> Result:
        """The result; StageFailed with the worker's own line where no other try would go better."""
        for left in reversed(range(TRIES)):
            asked = self._asked()
            try:
                made, why = self._waited(asked)
            except (Stopped, KeyboardInterrupt):
                self.pool.cancel(asked)
                raise
            if made:
                return made
            self.say(f"{self.task.stage}: {why}" + ("; another try" if left else ""))
        raise StageFailed(f"stage '{self.task.stage}': {TRIES} workers of pool {self.pool.pool} were lost: {why}")

    def _asked(self) -> Asked:
        asked = self.pool.ask(self.task)
        self.say(f"{self.task.stage}: asked pool {self.pool.pool} of {self.pool.url}, flow run '{asked.called}'")
        self._since = self._began = time.monotonic()
        self._beat = None
        return asked

    def _waited(self, asked: Asked) -> tuple[Result | None, str]:
        """The result, or why another worker has to be asked."""
        while True:
            with contextlib.suppress(Away):
                asked = self._seen(self.pool.look(asked))
            if asked.over:
                return self._ended(asked)
            if time.monotonic() - self._looked >= _LOOK_AT_SHELF:
                self._looked = time.monotonic()
                made = self._looked_at_shelf(asked)
                if made:
                    return made, ""
                if time.monotonic() - self._since >= keeper.LOST:
                    return None, self._lost(asked)
            time.sleep(_LOOK)

    def _seen(self, asked: Asked) -> Asked:
        if asked.kind == StateType.SCHEDULED:
            self._since = time.monotonic()
            if self._since - self._began >= _PATIENCE and "waits" not in self._told:
                self._told.add("waits")
                self.say(f"{self.task.stage}: no worker of pool {self.pool.pool} has taken it yet; waiting for one")
        return asked

    def _looked_at_shelf(self, asked: Asked) -> Result | None:
        """The result, where it is there although Prefect has not said so; and whether the worker lives."""
        try:
            beat = keeper.alive(self.shelf, self.task)
            if beat != self._beat:
                self._beat, self._since = beat, time.monotonic()
                return None
            return work.found(self.shelf, self.task)
        except RemoteGone as error:  # cut off here, nothing is known of the worker
            self._since = time.monotonic()
            if "gone" not in self._told:
                self._told.add("gone")
                self.say(f"{self.task.stage}: {error}; waiting")
            return None

    def _lost(self, asked: Asked) -> str:
        why = f"its worker has given no sign of life for {keeper.LOST:.0f} seconds"
        self.pool.lose(asked, why)
        self.shelf.remove(self.task.working)  # which tells it, should it live, that the task is another's
        return why

    def _ended(self, asked: Asked) -> tuple[Result | None, str]:
        if asked.kind == StateType.CANCELLED:
            raise StageFailed(f"stage '{self.task.stage}': flow run '{asked.called}' was cancelled")
        made = work.found(self.shelf, self.task)
        if made:
            return made, ""
        if asked.kind == StateType.FAILED and asked.name not in PASSING:
            raise StageFailed(f"stage '{self.task.stage}' on a worker of pool {self.pool.pool}: {asked.message}")
        self.shelf.remove(self.task.working)  # else the next one waits for a sign of life of this one
        if asked.kind == StateType.COMPLETED:
            return None, f"flow run '{asked.called}' has ended, and its result is not in DVC's remote"
        return None, f"its worker was stopped ({asked.message or asked.name})"
