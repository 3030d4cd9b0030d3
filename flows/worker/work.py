"""What a worker does: a worktree at the commit, the inputs as hashed, the stage, and its result to DVC's remote.

The workspace is a clone of the project's git.  Nothing in it changes: the worktree lies below ``.stillroom/tasks`` and
shares the clone's cache, so that the next training fetches only what is new.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.base.files import write_text
from components.pipeline import STATE
from components.pipeline import stage as named
from flows.dvc import apart, engine, snapshot
from flows.dvc.shelf import RemoteGone, Shelf
from flows.history import git
from flows.registry import bundle
from flows.worker import order, task
from flows.worker.task import Result, Task
from flows.workspace.events import FileSink, MetricSink, following
from flows.workspace.paths import State

_QUIET = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": os.devnull}
"""Hooks stay out: that of `dvc install` would check out all data."""

_MADE = f"{STATE}/made.json"
"""In the worktree: its stage has run, and its result waits to be delivered."""


class InputsDiffer(UserError):
    """What lies here, or what the commit holds, is not what the task was asked for."""


def place(workspace: Path, wanted: Task) -> Path:
    """Where the worktree of a task lies."""
    return workspace / STATE / "tasks" / wanted.inputs[:16]


def prepare(workspace: Path, wanted: Task) -> Path:
    """A worktree at the task's commit with the data that its stage reads, each byte compared with dvc.lock's hashes.

    RemoteGone when git's or DVC's remote does not answer; InputsDiffer where they hold something else than was asked.
    """
    where = place(workspace, wanted)
    _check_out(workspace, wanted, where)
    apart.lend(workspace, where)
    apart.fetch_inputs(where, wanted.stage)
    _compare(where, wanted)
    return where


def run(
    where: Path, wanted: Task, *, log: logging.Logger | logging.LoggerAdapter, metrics: MetricSink, files: FileSink
) -> float:  # fmt: skip
    """Run the stage in its worktree, on all GPUs there are; the seconds it took, or had taken if it waits to go.

    The inputs are compared again at the end: what they are then is what the result was made from.
    """
    state, began, made = State(where), time.monotonic(), where / _MADE
    if made.is_file():
        return float(json.loads(made.read_text("utf-8"))["seconds"])
    with following(state.events, wanted.stage, log=log, metrics=metrics, files=files):
        engine.reproduce(where, named(wanted.stage), watched=state.events, force=True)
    seconds = time.monotonic() - began
    _compare(where, wanted)
    write_text(made, json.dumps({"seconds": seconds}))
    return seconds


def deliver(where: Path, wanted: Task, shelf: Shelf, seconds: float, mlflow: str | None) -> Result:
    """Copy the outputs to DVC's remote, then the result to the shelf: where it is, its outputs are."""
    made = apart.send_outputs(where, wanted.stage)
    if task.digest(wanted.stage, made) != wanted.inputs:
        raise InputsDiffer(f"stage '{wanted.stage}' was run from something else than inputs {wanted.inputs[:12]}")
    found = Result.model_validate({
        "format": 1, "commit": wanted.commit, "inputs": wanted.inputs, "stage": wanted.stage,
        "outs": [_out(where, wanted, out) for out in made["outs"]], "seconds": round(seconds, 1),
        "libraries": bundle.libraries(where), "machine": bundle.machine(), "mlflow": mlflow,
    })  # fmt: skip
    shelf.write(wanted.result, found.text())
    return found


def clear(workspace: Path, where: Path) -> None:
    """Remove the worktree of a task that is done."""
    with contextlib.suppress(UserError):
        git.git(workspace, "worktree", "remove", "--force", str(where))
    shutil.rmtree(where, ignore_errors=True)
    git.git(workspace, "worktree", "prune")


def found(shelf: Shelf, wanted: Task) -> Result | None:
    """The result of the task where the shelf has one; UserError where that is not to be believed."""
    text = shelf.read(wanted.result)
    return None if text is None else task.read(text, wanted)


def _check_out(workspace: Path, wanted: Task, where: Path) -> None:
    if git.commit(workspace, wanted.commit) != wanted.commit:
        try:
            git.git(workspace, "fetch", "--quiet", "--no-tags", order.remote(workspace), wanted.ref)
        except UserError as error:
            raise RemoteGone(f"commit {wanted.commit[:12]}: {error}") from None
        if git.commit(workspace, wanted.commit) != wanted.commit:
            raise InputsDiffer(f"{wanted.ref} of git's remote is another commit")
    if where.is_dir() and git.commit(where) == wanted.commit:
        if not (where / _MADE).is_file():
            git.git(where, "checkout", "--quiet", "--force", wanted.commit, extra=_QUIET)
        return
    for other in where.parent.iterdir() if where.parent.is_dir() else ():  # of tasks that others ended
        clear(workspace, other)
    git.git(workspace, "worktree", "prune")
    git.git(workspace, "worktree", "add", "--quiet", "--force", "--detach", str(where), wanted.commit, extra=_QUIET)
    # What torch has compiled serves the next task too.
    kept = workspace / STATE / "compiled"
    kept.mkdir(exist_ok=True)
    (where / STATE).mkdir(exist_ok=True)
    (where / STATE / "compiled").symlink_to(kept)


def _compare(where: Path, wanted: Task) -> None:
    other = apart.changed_input(where, wanted.stage)
    if other:
        raise InputsDiffer(f"{other}: is not what dvc.lock of commit {wanted.commit[:12]} says")
    with snapshot.taken(where):
        made = task.digest(wanted.stage, apart.inputs(where, wanted.stage))
    if made != wanted.inputs:
        raise InputsDiffer(f"commit {wanted.commit[:12]} has other inputs for stage '{wanted.stage}' ({made[:12]}) "
                           f"than was asked for ({wanted.inputs[:12]}); in a project: another version of Stillroom is "
                           "installed on this worker")  # fmt: skip


def _out(where: Path, wanted: Task, out: Mapping[str, Any]) -> dict[str, Any]:
    kept_by_git = out["path"] == named(wanted.stage).metrics
    text = (where / out["path"]).read_text("utf-8") if kept_by_git else None
    return {"path": out["path"], "md5": out["md5"], "text": text}
