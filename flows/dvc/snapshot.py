"""Snapshot: the code and the parameters as a pipeline run found them; its stages work from this copy.

People go on editing while a training runs.  DVC hashes code and parameters only after a stage's command, so it would
record the edit as what made the weights.  Here the run, from its first stage to its last, imports its code and reads
its parameters from the copy, and DVC hashes the copy (flows/dvc/stages.py); the next run sees the edit.

    .stillroom/snapshot/CODE/components/...      named by its content, so that the next run finds it compiled
    .stillroom/snapshot/CODE/RUN/params.yaml     and pipeline.yaml, the copy of dvc.yaml

DVC would read a second dvc.yaml as a pipeline of its own, hence the other name.  A project has no code: the copy is
that of the installed package, which may be upgraded meanwhile, and beside it lie the records that stand for it in
dvc.yaml (flows/dvc/package.py), whatever the project's own files say.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.base import config, imports, versions
from components.base.errors import UserError
from components.pipeline import STATE
from flows.dvc import package

CODE = "components"
_TABLE = "pipeline.yaml"
_KEPT = {config.FILE: config.FILE, "dvc.yaml": _TABLE}


@dataclass(frozen=True)
class Snapshot:
    """One copy; ``folder`` holds the parameters, the folder above it the code."""

    folder: Path

    @property
    def table(self) -> Path:
        """The copy of dvc.yaml."""
        return self.folder / _TABLE

    def copy(self, path: str) -> Path | None:
        """The copy of the checkout's file ``path``; None when the snapshot does not hold that one."""
        if path in _KEPT:
            return self.folder / _KEPT[path]
        return self.folder.parent / path if path.startswith((f"{CODE}/", f"{versions.FOLDER}/")) else None

    def environment(self) -> dict[str, str]:
        """For a stage's command: `python -m components` and all that it starts import the copy."""
        path = os.pathsep.join(filter(None, (str(self.folder.parent), os.environ.get("PYTHONPATH"))))
        # Without PYTHONSAFEPATH Python would look into the current folder, the checkout, before PYTHONPATH.
        return {config.SNAPSHOT: str(self.folder), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def begun(root: Path, say: Callable[[str], None]) -> Iterator[Snapshot]:
    """As `taken`, for a pipeline run that begins: a project is first brought to the package that is installed."""
    if not config.snapshot(root):
        package.refresh(root, say)
    with taken(root) as snapshot:
        yield snapshot


@contextlib.contextmanager
def taken(root: Path) -> Iterator[Snapshot]:
    """The snapshot that this process and its children work from; taken now, unless one is in use already.

    Only under the checkout's lock: older snapshots are removed.
    """
    held = config.snapshot(root)
    if held:
        yield Snapshot(held)
        return
    snapshot = _take(root)
    os.environ[config.SNAPSHOT] = str(snapshot.folder)
    try:
        yield snapshot
    finally:
        del os.environ[config.SNAPSHOT]


def file(root: Path, path: str) -> Path:
    """Where to read the checkout's file ``path``: the copy that the present run works from, where there is one."""
    held = config.snapshot(root)
    copy = Snapshot(held).copy(path) if held else None
    return copy if copy is not None else root / path


def _take(root: Path) -> Snapshot:
    project = versions.is_project(root)
    found, kept = _code(imports.ROOT if project else root), {name: _read(root / path) for path, name in _KEPT.items()}
    above = root.resolve() / STATE / "snapshot"
    folder = above / _name(found)
    if not folder.is_dir() or _code(folder) != found:
        shutil.rmtree(folder, ignore_errors=True)
        _write(folder, found)
    if project:
        mine = package.rendered(root).items()
        _write(folder, {path: text.encode() for path, text in mine if path.startswith(f"{versions.FOLDER}/")})
    snapshot = Snapshot(folder / _name(kept))
    _write(snapshot.folder, kept)
    runs = (entry for entry in folder.iterdir() if entry.name not in (CODE, versions.FOLDER))
    for other in [*above.iterdir(), *runs]:
        if other not in (folder, snapshot.folder):
            shutil.rmtree(other, ignore_errors=True)
    return snapshot


def _code(root: Path) -> dict[str, bytes]:
    """Every file of the code below ``root``, but what Python and editors leave beside them."""
    found = {}
    for folder, names, files in os.walk(root / CODE):
        names[:] = [name for name in names if name != "__pycache__" and not name.startswith(".")]
        for path in (Path(folder, name) for name in files if not name.startswith(".") and not name.endswith("~")):
            with contextlib.suppress(FileNotFoundError):  # an editor's, gone since
                if stat.S_ISREG(path.stat().st_mode):
                    found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not there: `git checkout {path.name}` brings it back") from None


def _name(content: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in sorted(content.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
