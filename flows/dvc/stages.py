"""DVC's stages, as this project runs them: code and parameters of a snapshot, data that must not change meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.base import versions
from components.base.errors import UserError
from flows.dvc import faults
from flows.dvc.snapshot import Snapshot


class InputChanged(UserError):
    """The data that a stage read is no longer what it was when the stage began."""


def loader(repo: Any, root: Path, snapshot: Snapshot) -> Callable[[str], Any]:
    """A function that gives DVC's object for the stage of a name, as dvc.yaml and dvc.lock are now: each is read once.

    The object hashes the code and the parameters of the snapshot wherever DVC would hash the checkout's, and refuses to
    be recorded when the data that it read changed while it ran.  DVC finds no other dvc.yaml and reads no templates: a
    broken file elsewhere in the checkout stops nothing.
    """
    from dvc.dvcfile import ProjectFile
    from dvc.exceptions import DvcException
    from dvc.stage.loader import StageLoader
    from dvc.utils.strictyaml import load as read

    file = ProjectFile(repo, str(root / "dvc.yaml"))
    try:
        table, _ = read(str(snapshot.table), ProjectFile.SCHEMA, repo.fs)
    except DvcException as error:  # it would name the copy
        raise UserError(f"{root / 'dvc.yaml'}: not what DVC reads: {_mend(root)} renders it anew") from error
    locked = file.lockfile_contents.get("stages", {})

    def load(name: str) -> Any:
        if name not in table.get("stages", {}):
            raise UserError(f"{root / 'dvc.yaml'}: has no stage '{name}': {_mend(root)} renders it anew")
        stage = StageLoader.load_stage(file, name, table["stages"][name], locked.get(name, {}))
        _of_snapshot(stage, snapshot)
        return stage

    return load


def _mend(root: Path) -> str:
    return "`stillroom run`" if versions.is_project(root) else "`make dvc`"


def _of_snapshot(stage: Any, snapshot: Snapshot) -> None:
    """Have ``stage`` read what the snapshot holds from there, and watch the rest, which is data."""
    data = []
    for dep in stage.deps:
        copy = snapshot.copy(dep.def_path)
        if copy is None:
            data.append(dep)
        else:
            _read_from(dep, str(copy))
    _watch(stage, data)


def _read_from(dep: Any, copy: str) -> None:
    """Have DVC read ``dep`` at ``copy`` and record it as what it is called in dvc.yaml."""
    dump = dep.dumpd
    dep.fs_path = copy
    dep.dumpd = lambda **options: {**dump(**options), "path": dep.def_path}


def _watch(stage: Any, data: list[Any]) -> None:
    """Have ``stage`` hash ``data`` before its command runs, and raise InputChanged where the hash after it differs."""
    run, save = stage._run_stage, stage.save_deps
    before: dict[str, Any] = {}

    def run_stage(*arguments: Any, **options: Any) -> None:
        for dep in data:
            if not dep.exists:  # DVC would raise what the system says, and look for its hash
                raise UserError(f"stage '{stage.name}' reads {dep.def_path}, which {faults.REMOVED}")
            dep.update_legacy_hash_name()  # as `save` does first: a dependency that is new to dvc.lock has the old name
            before[dep.def_path] = dep.get_hash()
        run(*arguments, **options)

    def save_deps(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        for dep in data:
            if dep.hash_info != before.get(dep.def_path, dep.hash_info):
                raise InputChanged(
                    f"{dep.def_path} changed while stage '{stage.name}' ran, so nothing says what its outputs were "
                    "made from and they were not recorded: run it again"
                )

    stage._run_stage, stage.save_deps = run_stage, save_deps
