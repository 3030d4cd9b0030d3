"""Order: what the controller hands to workers: a commit of just what they need, and the data in DVC's remote."""

from __future__ import annotations

import os
from pathlib import Path

from components.base import config
from components.base.errors import UserError
from flows.dvc import apart, engine, lockfile, package, snapshot
from flows.history import git, ledger
from flows.worker.task import Task, digest

_NEEDED = ("params.yaml", "dvc.yaml", "data/source.json", "data/start.json", "data/start.dvc", ".dvc/config",
           ".dvcignore", ".gitignore")  # fmt: skip
"""Beside the code and dvc.lock."""


def order(root: Path, stage: str) -> Task:
    """Hand ``stage`` as the run that goes on would run it to git's and DVC's remote; the task to ask a worker for.

    The commit holds what a worker needs and nothing else, has no parents and no clock, and lies under a ref of its own:
    the same state gives the same commit, and no branch gets to know of it.
    """
    task = Task(_commit(root), digest(stage, apart.inputs(root, stage)), stage).checked()
    apart.send_inputs(root, stage)
    git.git(root, "push", "--quiet", remote(root), f"{task.commit}:{task.ref}")
    return task


def forget(root: Path, task: Task) -> None:
    """Take the task's ref out of git's remote."""
    git.git(root, "push", "--quiet", remote(root), f":{task.ref}")


def remote(root: Path) -> str:
    """The git remote that both ends share: that of the branch, else the only one; UserError where there is none."""
    branch = git.maybe(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    held = git.maybe(root, "config", "--get", f"branch.{branch}.remote") if branch else ""
    found = git.git(root, "remote").split()
    if held in found:
        return held
    if len(found) != 1:
        why = f"has {len(found)} of them and follows none" if found else "has none"
        raise UserError(f"{root}: workers need a git remote and it {why}: `git push --set-upstream origin BRANCH`")
    return found[0]


def check(root: Path) -> None:
    """UserError, before any work, where the checkout has no way to hand a stage to a worker."""
    remote(root)
    if not engine.remote(root):
        raise UserError(f"{root}: workers get the data by DVC's default remote, and it has none: "
                        "`dvc remote add --default NAME URL` (docs/workers.md)")  # fmt: skip


def _commit(root: Path) -> str:
    """The hash of a commit of the code, the parameters and the state of the data that this run works from."""
    held = config.snapshot(root)
    if held is None:
        raise AssertionError("an order is part of a run, which works from a snapshot")
    above = held.parent
    folders = [above / snapshot.CODE] if not package.is_project(root) else [above / package.versions.FOLDER]
    texts = {"dvc.lock": lockfile.text(root).encode()}
    for name in _NEEDED:
        place = snapshot.file(root, name)
        if place.is_file():
            texts[name] = place.read_bytes()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                texts[path.relative_to(above).as_posix()] = path.read_bytes()
    texts = {name.replace(os.sep, "/"): text for name, text in texts.items()}
    return ledger.commit_of(root, texts, "stillroom: a stage for a worker", 0)
