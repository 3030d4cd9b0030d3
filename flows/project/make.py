"""`stillroom init`: make a project, whole or not at all.

A new folder is written beside its place and renamed.  Into a folder that is there already each file is renamed, and
params.yaml last: until then the same command, given again, goes on.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.base import files
from components.base.config import FILE
from components.base.errors import UserError
from flows.dvc.package import NAME, version
from flows.history import git
from flows.project import layout, presets

_BESIDE = "init"
"""What lies in a folder that is there already while a project is made in it, by its name (files.BESIDE)."""
_LAST = (".git", FILE)
_QUIET = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": os.devnull,
          "GIT_CONFIG_KEY_1": "commit.gpgSign", "GIT_CONFIG_VALUE_1": "false"}  # fmt: skip
"""The first commit is this command's: no hook of the user's machine and no pass phrase."""


def make(folder: Path, preset: str, *, source: str | None, licence: str, dry_run: bool) -> list[str]:
    """Make a project of ``preset`` in ``folder``; says in lines what was made, or would be, and what to do next."""
    chosen = presets.named(preset)
    if chosen.samples and source is not None:
        raise UserError(f"--source {source}: preset {preset} has its own pictures: take one of the others")
    place = folder.resolve()
    location = presets.PICTURES if source is None else _location(source)
    wanted = layout.files(preset, place.name or "project", location=location, licence=licence)
    _check(place, wanted)
    own = (place / ".git").exists()
    done = "would make" if dry_run else "made"
    said = [f"{done} {place}: preset {preset}, {chosen.line}"]
    if dry_run:
        said += [f"  {path}" for path in sorted(wanted)]
        return [*said, *(["git is there already"] if own else ["git init, and a first commit"])]
    with _beside(place) as beside:
        for path, content in wanted.items():
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            (beside / path).write_bytes(content)
        if not own:
            _commit(beside, preset)
        (beside / ".dvc/config.local").write_text(layout.local(place), "utf-8")
    told = licence != presets.UNKNOWN or chosen.samples
    return [*said, "next:", *(f"  {line}" for line in _next(place, location, own=own, told=told))]


def _location(source: str) -> str:
    """As params.yaml has it: an address as it is, a path from the root; UserError where nothing lies there."""
    if "://" in source:
        return source
    if not Path(source).exists():
        raise UserError(f"--source {source}: not there: name a folder, an archive or an address such as s3://bucket/p")
    return str(Path(source).resolve())


def _check(place: Path, wanted: Mapping[str, bytes]) -> None:
    """UserError where no project can be made in ``place``; what a killed `init` left there does not count."""
    if "?" in str(place):
        raise UserError(f"{place}: a project cannot lie where a name has a question mark: give another folder")
    if not place.parent.is_dir():
        raise UserError(f"{place.parent}: no such folder: make it, or give another")
    if place.exists() and not place.is_dir():
        raise UserError(f"{place}: is a file: give a new or an empty folder")
    if (place / FILE).exists():
        raise UserError(f"{place / FILE}: there already: nothing was written; `{NAME} run` works with what is there")
    # Also that of a worktree, which is a file; the history of runs would go into a repository of somebody else's.
    above = next((folder for folder in place.parents if (folder / ".git").exists()), None)
    if above and not (place / ".git").exists():
        raise UserError(f"{place}: lies inside the git repository {above}: give a folder outside of it, or `git init` "
                        "this one first")  # fmt: skip
    git.git(place.parent, "version")
    strange = next((path for path in _files(place) if not _ours(place, path, wanted)), None)
    if strange:
        raise UserError(f"{place}: is not empty: it holds {strange}: give a new or an empty folder (a .git and a .dvc "
                        "may be there)")  # fmt: skip


def _files(place: Path) -> Iterator[str]:
    """The files below ``place`` but for those of git and of an `init` that was killed."""
    for folder, names, found in os.walk(place):
        here = Path(folder) == place
        names[:] = sorted(name for name in names if not (here and (name == ".git" or _left(name))))
        yield from (Path(folder, name).relative_to(place).as_posix() for name in sorted(found) if name != ".git")


def _left(name: str) -> bool:
    return name.startswith(f".{_BESIDE}{files.BESIDE}")


def _ours(place: Path, path: str, wanted: Mapping[str, bytes]) -> bool:
    """Whether an `init` that was killed left it, or it is DVC's, which stays as it is."""
    return path.startswith((".dvc/", ".dvcignore")) or (path in wanted and (place / path).read_bytes() == wanted[path])


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder to write the project to, which becomes ``place`` at the end, or is put into it where that exists."""
    if not place.exists():
        with files.replacing_folder(place) as beside:
            yield beside
        return
    files.sweep(place, _BESIDE)  # of one that was killed
    beside = place / f".{_BESIDE}{files.BESIDE}{secrets.token_hex(4)}"
    beside.mkdir()
    try:
        yield beside
        paths = [path for path in _files(beside) if path != FILE]
        for path in [*paths, *(last for last in _LAST if (beside / last).exists())]:
            target = place / path
            if not target.exists():  # a DVC that was there keeps its own
                target.parent.mkdir(parents=True, exist_ok=True)
                files.sync(beside / path)
                os.replace(beside / path, target)
        files.sync(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _commit(place: Path, preset: str) -> None:
    git.git(place, "init", "--quiet", "--initial-branch=main")
    git.git(place, "add", "--all", "--force", extra=_QUIET)  # whatever the user's own core.excludesFile says
    git.git(place, "commit", "--quiet", "-m", f"Make a project by {NAME} {version()}, preset {preset}", extra=_QUIET)


def _next(place: Path, location: str, *, own: bool, told: bool) -> Iterator[str]:
    """The commands that lead to a model; ``told``: the licence of the pictures is known."""
    at = os.path.relpath(place)
    if at != ".":
        yield f"cd {shlex.quote(f'./{at}' if at.startswith('-') else at)}"
    if own:
        yield "git add --all && git commit -m 'Make a project'"
    if (place / presets.PICTURES).is_dir():
        yield f"put pictures into {location}/, or set collect.sources[0].location in {FILE} to where they lie"
    if not told:
        yield f"set collect.sources[0].licence in {FILE} to what holds for your pictures"
    yield f"{NAME} run"
