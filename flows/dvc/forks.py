"""The data stages of a run as forks of one process (components/forking), in place of a shell and a Python for each."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from components.pipeline import PIPELINE, stage

STAGES = {f"python -m components {entry.name}": entry.name for entry in PIPELINE[: PIPELINE.index(stage("train"))]}
"""By its command in dvc.yaml, each stage that may be a fork: those of pictures import torch, which starts threads."""
Variables = Mapping[str, str]


class Forks:
    """The process that forks, in one folder and with one environment."""

    def __init__(self, folder: str, environment: Variables) -> None:
        self._made_for = _key(folder, environment)
        self.channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                ["python", "-m", "components.forking", str(theirs.fileno())], cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def serves(self, folder: str, environment: Variables) -> bool:
        """Whether it lives, and a stage in ``folder`` with ``environment`` may be a fork of it."""
        return self._made_for == _key(folder, environment) and self.process.poll() is None

    def run(self, name: str, environment: Variables) -> int:
        """Run the stage ``name``; its exit code, negative for a signal."""
        with contextlib.suppress(OSError):
            self.channel.sendall(json.dumps({"stage": name, "environment": dict(environment)}).encode() + b"\n")
            with self.channel.makefile("rb") as answers:
                answer = answers.readline()
            if answer:
                return int(answer)
        return self.process.wait() or 1  # killed, or it failed to start: it has said why

    def close(self) -> None:
        """End the process; a stage that runs is stopped, and waited for."""
        self.channel.close()
        self.process.wait()


_held: Forks | None = None


@contextlib.contextmanager
def in_place_of_a_shell() -> Iterator[None]:
    """DVC runs the commands of STAGES as forks of one process, which stays until a stage of another kind comes."""
    from dvc.stage import run

    before = run._run
    run._run = lambda executable, command, **options: _run(executable, command, options)
    try:
        yield
    finally:
        run._run = before


@atexit.register
def close() -> None:
    """End the process that forks, where there is one."""
    global _held
    if _held is not None:
        _held.close()
        _held = None


def _run(executable: str, command: str, options: dict[str, Any]) -> None:
    """As ``dvc.stage.run._run``, which ignores Ctrl-C meanwhile: it would be lost where the stage does not get it too.

    Whoever called ends the stage (flows/dvc/engine.py).
    """
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    global _held
    name, folder, environment = STAGES.get(command), options["cwd"], options["env"]
    if _held is not None and (name is None or not _held.serves(folder, environment)):
        close()
    if name is None or not hasattr(os, "pidfd_open"):
        code = subprocess.Popen(run._make_cmd(executable, command), **options).wait()
    else:
        if _held is None:
            _held = Forks(folder, environment)
        code = _held.run(name, environment)
    if code:
        raise StageCmdFailedError(command, code)


def _key(folder: str, environment: Variables) -> tuple[str, Variables]:
    return folder, {name: value for name, value in environment.items() if name != "DVC_STAGE"}
