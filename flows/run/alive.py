"""Who works on a flow run of Prefect's: a file for each, locked as long as its process lives, however that ends.

Prefect itself cannot tell a run whose process was killed, or whose server was away when it ended: both show as running
for ever, and take the place of the next one where a deployment allows one at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from components.base.errors import brief
from flows.workspace.paths import State

_OLD = 30 * 86_400.0
"""Seconds after which a note goes whose run no server that was asked knows."""
KILLED = "nobody works on it: its process ended without a word"


def _folder(state: State) -> Path:
    return state.folder / "flowruns"


class Note:
    """The file of one flow run; this process holds its lock until it ends."""

    def __init__(self, state: State, run: str) -> None:
        self.path = _folder(state) / run
        self.path.parent.mkdir(exist_ok=True)
        beside = self.path.with_name(f".{run}-{os.getpid()}")
        self._handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._handle, fcntl.LOCK_EX)  # before anybody can see it
        os.replace(beside, self.path)

    def say(self, **outcome: str) -> None:
        """Note how the work ended, for whoever has to tell Prefect in place of this process."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps(outcome).encode(), 0)

    def end(self) -> None:
        """Remove it: Prefect knows how the run ended."""
        self.path.unlink(missing_ok=True)


class Working:
    """The flow runs that this process works on."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def begin(self, state: State, known: Callable[[], bool]) -> None:
        """Note the present flow run; at the end of the process the note goes, if ``known``.

        ``known``: whether Prefect's server has heard how they ended.  A disk that is full or read-only stops no run
        here: it would only show as running after a kill.
        """
        from prefect.runtime import flow_run

        if flow_run.id:
            with contextlib.suppress(OSError):
                self.notes.append(Note(state, str(flow_run.id)))
        atexit.register(self._end, known)

    def _end(self, known: Callable[[], bool]) -> None:
        for note in self.notes if known() else ():
            note.end()

    def ended(self, error: BaseException | None, name: str = "") -> None:
        """Note that the work has ended, well or with ``error``."""
        kind = "COMPLETED" if error is None else "FAILED" if isinstance(error, Exception) else "CRASHED"
        said = {"type": kind, "message": brief(error) if error is not None else name, "name": name}
        for note in self.notes:
            with contextlib.suppress(OSError):
                note.say(**said)


@dataclass(frozen=True, kw_only=True)
class Left:
    """A flow run that no process works on, and how its work ended as far as that was noted."""

    run: str
    path: Path
    outcome: dict[str, str]


def noted(state: State) -> bool:
    """Whether there is any note, of a living process or of one that is gone."""
    return _folder(state).is_dir() and any(_folder(state).iterdir())


def left(state: State) -> Iterator[Left]:
    """Those of this checkout; each is held while the body of the loop looks at it."""
    for path in sorted(_folder(state).iterdir()) if noted(state) else []:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if path.name.startswith("."):  # a process that was killed before it could name it
                path.unlink(missing_ok=True)
                continue
            try:
                outcome = dict(json.loads(path.read_text("utf-8") or "{}"))
            except ValueError:
                outcome = {}
            yield Left(run=path.name, path=path, outcome=outcome)
        finally:
            os.close(handle)


def close(state: State, say: Callable[[str], None]) -> int:
    """Tell Prefect's server how the flow runs ended that nobody works on, and their tasks; how many were open."""
    count = 0
    if not noted(state):
        return 0
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for one in left(state):
            try:
                run = client.read_flow_run(UUID(one.run))
            except (ObjectNotFound, ValueError):  # another server's, or none's
                if time.time() - one.path.stat().st_mtime > _OLD:
                    one.path.unlink(missing_ok=True)
                continue
            if run.state is not None and not run.state.is_final():
                line = _end(client, run, one.outcome)
                say(f"flow run {run.name}: {line}")
                count += 1
            one.path.unlink(missing_ok=True)
    return count


def _end(client: Any, run: Any, outcome: dict[str, str]) -> str:
    """Write the end of ``run`` and of its open tasks; what was written."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import State as PrefectState
    from prefect.client.schemas.objects import StateType

    kind = StateType(outcome.get("type") or "CRASHED")
    message = outcome.get("message") or KILLED
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in client.read_task_runs(flow_run_filter=mine):
        if task.state is not None and not task.state.is_final():
            ended = PrefectState(type=StateType.COMPLETED if kind == StateType.COMPLETED else StateType.CRASHED,
                                 message=message)  # fmt: skip
            client.set_task_run_state(task.id, ended, force=True)
    client.set_flow_run_state(run.id, PrefectState(type=kind, message=message), force=True)
    if outcome.get("name"):
        client.update_flow_run(run.id, name=outcome["name"][:200])
    return f"{kind.value.lower()}: {message}"
