"""How a command ends: its exit code, and its error in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from components.base.errors import UserError, environment_error


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
        mine = environment_error(error)
        if mine is None:
            raise
        return fail(str(mine), 2)
    return 0


def fail(line: str, code: int) -> int:
    """Print ``line`` as the error and return ``code``; an empty line was printed by the process that failed."""
    if line:
        note(f"error: {line}")
    return code


def note(line: str) -> None:
    """Print a line for the person at the terminal; standard output is kept for results."""
    print(line, file=sys.stderr, flush=True)
