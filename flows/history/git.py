"""The calls of git: an answer, "there is none", or an error in one line; the three are never confused."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.base.errors import UserError

_NO = 1
"""How ``git rev-parse --verify --quiet`` and ``git config --get`` end when what was asked for is not there."""

ME = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
      for what, value in (("NAME", "stillroom"), ("EMAIL", "stillroom@localhost"))}  # fmt: skip
"""Who writes: without a name git asks for that of the host, over the network if need be, even for a reflog."""

_ELSEWHERE = ("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR", "GIT_GRAFT_FILE",
              "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REF_PARANOIA",
              "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE")  # fmt: skip
"""What has git answer from another repository than the checkout's: it starts its hooks with some of it."""
_OWN = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
"""Messages as they are looked for here, no lock for a mere look, and under each hash what has that hash."""
_PLAIN = ("-c", "log.showSignature=false")
"""Else `git log` of a signed commit has lines besides those that were asked for."""


def git(root: Path, *arguments: str, stdin: bytes | None = None, extra: Mapping[str, str] | None = None) -> str:
    """What ``git arguments`` prints in ``root``; UserError with git's own line when it fails."""
    return _done(root, arguments, stdin, extra).stdout.decode(errors="replace")


def whole(root: Path, *arguments: str, mend: str) -> str:
    """As `git`, for a list that has to be whole; UserError ending in ``mend`` when git warns that it left one out."""
    done = _done(root, arguments)
    for line in done.stderr.decode(errors="replace").splitlines():
        if line.startswith("warning: ignoring "):  # a ref that is damaged or empty, as after a power cut
            raise UserError(f"git {arguments[0]}: {line.removeprefix('warning: ')}: {mend}")
    return done.stdout.decode(errors="replace")


def maybe(root: Path, *arguments: str) -> str:
    """The same without white space around it, and an empty text where git says that there is none."""
    done = _run(root, arguments)
    if done.returncode not in (0, _NO) or (done.returncode == _NO and done.stderr.strip()):
        raise _failed(root, arguments, done)
    return done.stdout.decode(errors="replace").strip()


def commit(root: Path, name: str = "HEAD") -> str:
    """The hash of the commit that ``name`` means, empty when there is none: a new repository has no HEAD yet."""
    # "--end-of-options" keeps git from taking a name that begins with a dash for an option.
    return maybe(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")


def common(root: Path) -> Path:
    """The folder of the repository that all of its worktrees share."""
    return root / git(root, "rev-parse", "--git-common-dir").removesuffix("\n")


def user(root: Path) -> str:
    """Who works here: git's user.name, else the account's, which flows/workspace/paths.py gives to one without."""
    return maybe(root, "config", "--get", "user.name") or getpass.getuser()


def refuse_hidden(root: Path, refs: str) -> None:
    """UserError where this user may not list a folder of ``refs``: git says nothing and leaves out what is below it."""
    place = common(root) / refs

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # they are packed, or git removes an empty folder just now
            raise UserError(f"{error.filename}: {error.strerror}: let this user read it, and what lies below it")

    for _ in os.walk(place, onerror=refuse):
        pass


def contents(root: Path, names: Iterable[str]) -> Iterator[bytes | None]:
    """The bytes of each of ``names`` (``COMMIT:path``), None where there is no such file; one call of git for all."""
    asked = list(names)
    if not asked:
        return
    done = _done(root, ("cat-file", "--batch"), "".join(f"{name}\n" for name in asked).encode())
    at = 0
    for _ in asked:
        end = done.stdout.index(b"\n", at)
        words = done.stdout[at:end].rsplit(b" ", 2)
        if words[-1] == b"missing":
            at = end + 1
            yield None
            continue
        size = int(words[-1])
        yield done.stdout[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def _done(
    root: Path, arguments: Iterable[str], stdin: bytes | None = None, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """What became of ``git arguments``; UserError when it failed."""
    done = _run(root, arguments, stdin, extra)
    if done.returncode:
        raise _failed(root, arguments, done)
    return done


def _run(
    root: Path, arguments: Iterable[str], stdin: bytes | None = None, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    around = {name: value for name, value in os.environ.items()
              if name not in _ELSEWHERE and not name.startswith("GIT_TRACE")}  # fmt: skip
    own = {**ME, **around, **(extra or {}), **_OWN}
    line = ["git", *_PLAIN, *arguments]
    try:
        return subprocess.run(line, cwd=root, input=stdin, capture_output=True, env=own, check=False)
    except FileNotFoundError:
        raise UserError("git is not here: install it (`apt-get install git`); the history of runs lies in it") from None


def _failed(root: Path, arguments: Iterable[str], done: subprocess.CompletedProcess[bytes]) -> UserError:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    first = next(iter(arguments))
    if any("dubious ownership" in line for line in said):
        return UserError(f"git does not read a repository of another user: if you trust it, `{said[-1].strip()}`")
    if any("not a git repository" in line for line in said):
        held = next((folder / ".git" for folder in (root, *root.parents) if os.path.lexists(folder / ".git")), None)
        if held:  # and `git init` would make another one in its place
            return UserError(f"{held}: git cannot read it, or it is damaged: let this user read what is in it")
        return UserError("this checkout is no git repository: `git init` and commit it, the history of runs lies there")
    if first in ("fetch", "push"):  # advice comes last: what is wrong stands before it
        words = [line.strip() for line in said if line.strip() and not line.startswith(("hint:", "To ", "From "))]
        return UserError(f"git {first}: {'; '.join(words[:2]) or f'exit code {done.returncode}'}")
    return UserError(f"git {first}: {said[-1] if said else f'exit code {done.returncode}'}")
