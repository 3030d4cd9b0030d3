"""How a command ends: its exit code, and its error in one line."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from components.base.errors import UserError, environment_error
from flows.workspace import paths


class PipelineCrashed(Exception):
    """The pipeline run ended with a bug; its process has printed the traceback."""


def exit_code(work: Callable[[], None]) -> int:
    """Do ``work`` and return 0; an error of the user is one line and 2, a crash of the run one line and 1."""
    try:
        work()
    except UserError as error:
        return fail(str(error), 2)
    except PipelineCrashed as error:
        return fail(f"{error}: this is a bug of Stillroom's, its traceback is above", 1)
    except Exception as error:
        own = [place for state in paths.entered for place in (state.folder, state.root / ".dvc/cache", state.root)]
        name_full_disk(error, *own, Path(tempfile.gettempdir()))
        mine = environment_error(error)
        if mine is None:
            raise
        return fail(str(mine), 2)
    return 0


def name_full_disk(error: BaseException | None, *places: Path) -> None:
    """Where ``error`` came of a full disk and names no file, as of a write, have it name the fullest of ``places``."""
    there = [place for place in places if place.exists()]
    for _ in range(20):  # causes may form a circle
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename and there:
            error.filename = str(min(there, key=lambda place: shutil.disk_usage(place).free))
        error = error and (error.__cause__ or error.__context__)


def fail(line: str, code: int) -> int:
    """Print ``line`` as the error and return ``code``; an empty line was printed by the process that failed."""
    if line:
        note(f"error: {line}")
    return code


def note(line: str) -> None:
    """Print a line for the person at the terminal; standard output is kept for results."""
    print(line, file=sys.stderr, flush=True)
