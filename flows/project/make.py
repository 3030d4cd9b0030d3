"""`stillroom init`: make a project, whole or not at all.

A new folder is written beside its place and renamed.  Into a folder that is there already each file is renamed, and
params.yaml last: until then the same command, given again, goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shlex
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.base import config, files
from components.base.config import FILE
from components.base.errors import UserError, brief, printable
from components.collect.params import CollectParams
from flows.dvc.package import NAME, version
from flows.history import git
from flows.project import layout, presets

_BESIDE = "init"
"""What lies in a folder that is there already while a project is made in it, by its name (files.BESIDE)."""
_LAST = (".git", FILE)
_QUIET = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": os.devnull,
          "GIT_CONFIG_KEY_1": "commit.gpgSign", "GIT_CONFIG_VALUE_1": "false"}  # fmt: skip
"""The first commit is this command's: no hook of the user's machine and no pass phrase."""
_UNWRITTEN = ("Cc", "Cs", "Zl", "Zp")
"""Categories of Unicode: line ends and other control characters, bytes that are no UTF-8."""


def make(folder: Path, preset: str, *, source: str | None, licence: str, dry_run: bool) -> list[str]:
    """Make a project of ``preset`` in ``folder``; says in lines what was made, or would be, and what to do next."""
    chosen = presets.named(preset)
    if chosen.samples and (source is not None or licence != presets.UNKNOWN):
        given = f"--licence {licence}" if source is None else f"--source {source}"
        raise UserError(f"{printable(given)}: preset {preset} has its own pictures: take one of the others")
    place = _place(folder)
    location = presets.PICTURES if source is None else _location(source, place)
    _written("--licence", licence)
    wanted = layout.files(preset, place.name or "project", location=location, licence=licence)
    # What is not allowed there must not come into git: an address may hold a secret.
    config.section(config.parse(wanted[FILE].decode()), "collect", CollectParams)
    try:
        with _alone(place.parent):
            _check(place, wanted)
            own = (place / ".git").exists()
            if not dry_run:
                _write(place, preset, wanted, own=own)
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ENOENT):
            raise
        raise UserError(f"{place}: cannot be made ({error.strerror}): give another folder") from None
    said = [f"{'would make' if dry_run else 'made'} {place}: preset {preset}, {chosen.line}"]
    if dry_run:
        said += [f"  {path}" for path in sorted(wanted)]
        return [*said, *(["git is there already"] if own else ["git init, and a first commit"])]
    told = licence != presets.UNKNOWN or chosen.samples
    return [*said, "next:", *(f"  {line}" for line in _next(place, location, own=own, told=told))]


def _place(folder: Path) -> Path:
    """Where the project will lie, without links; UserError for a name that DVC and MLflow could not write down."""
    try:
        place = Path(os.path.realpath(folder))  # of links in a circle `resolve` raises before Python 3.13
    except OSError as error:  # the folder of the shell is gone
        raise UserError(f"{printable(str(folder))}: leads nowhere ({brief(error)}): give another folder") from None
    _written("DIR", str(place))
    # Where the address of a database ends, and where DVC puts in another value of its configuration.
    wrong = next((words for each, words in (("?", "a question mark"), ("%(", "%(")) if each in str(place)), None)
    if wrong:
        raise UserError(f"{place}: a project cannot lie where a name has {wrong}: give another folder")
    return place


def _written(what: str, value: str) -> None:
    """UserError for a value that one line of a UTF-8 text cannot hold."""
    if any(unicodedata.category(each) in _UNWRITTEN for each in value):
        raise UserError(f"{what} {printable(value)}: has a line end, a control character or bytes that are no UTF-8")


def _location(source: str, place: Path) -> str:
    """As params.yaml has it: an address as it is, a path from the root; UserError where nothing lies there."""
    _written("--source", source)
    if "://" in source:
        return source
    there = False
    with contextlib.suppress(OSError):  # too long a name
        there = source != "" and Path(source).exists()
    if not there:
        raise UserError(f"--source {source}: not there: name a folder, an archive or an address such as s3://bucket/p")
    found = Path(source).resolve()
    if place.is_relative_to(found):  # each run would take in what the last one made
        raise UserError(f"--source {source}: holds the project itself: give another DIR or a folder of pictures alone")
    return str(found)


def _check(place: Path, wanted: Mapping[str, bytes]) -> None:
    """UserError where no project can be made in ``place``; what a killed `init` left there does not count."""
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
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another `init` that makes something in ``folder``: it would sweep away what this one writes."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it is not there, which `_check` says
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a network's file system may have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(place: Path, preset: str, wanted: Mapping[str, bytes], *, own: bool) -> None:
    with _beside(place) as beside:
        for path, content in wanted.items():
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            (beside / path).write_bytes(content)
        if not own:
            _commit(beside, preset)
        (beside / ".dvc/config.local").write_text(layout.local(place), "utf-8")


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder to write the project to, which becomes ``place`` at the end, or is put into it where that exists."""
    if not place.exists():
        with files.replacing_folder(place) as beside:
            yield beside
            if place.exists():  # somebody else's, which would be replaced
                raise UserError(
                    f"{place}: was made meanwhile by somebody else: look what it is, or give another folder"
                )
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
    try:
        at = os.path.relpath(place)
    except FileNotFoundError:  # the folder of the shell is gone
        at = str(place)
    if at != ".":
        yield f"cd {shlex.quote(f'./{at}' if at.startswith('-') else at)}"
    if own:
        yield "git add --all && git commit -m 'Make a project'"
    if (place / presets.PICTURES).is_dir():
        yield f"put pictures into {location}/, or set collect.sources[0].location in {FILE} to where they lie"
    if not told:
        yield f"set collect.sources[0].licence in {FILE} to what holds for your pictures"
    yield f"{NAME} run"
