"""What goes wrong in DVC and in the stages that it runs, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from components.base.errors import UserError

REMOVED = "was removed while the run went on: run it again, which takes it from DVC's cache or makes it anew"


class StageFailed(UserError):
    """A stage ended with an error of one line."""


class StageKilled(UserError):
    """A stage was ended by SIGKILL, by the kernel for want of memory or by hand; another time it may go well."""


class StageCrashed(RuntimeError):
    """A stage ended with a traceback: a bug, printed by the stage itself."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn DVC's errors that a user can correct into one line."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.stage.exceptions import StageCmdFailedError

    try:
        yield
    except LockError:
        raise UserError("another `dvc` command is running in this checkout: wait for it and run this again") from None
    except DvcException as error:
        chain = _chain(error)
        mine = next((cause for cause in chain if isinstance(cause, UserError)), None)
        if mine is not None:
            raise mine from None
        if any(isinstance(cause, StageCmdFailedError) for cause in chain):
            failed = next(cause for cause in chain if isinstance(cause, StageCmdFailedError))
            raise StageCrashed(str(failed)) from None
        gone = next((cause for cause in chain if isinstance(cause, FileNotFoundError) and cause.filename), None)
        if gone is not None:
            raise UserError(f"{gone.filename}: {REMOVED}") from None
        system = next((cause for cause in chain if isinstance(cause, OSError)), None)
        if system is not None and system.errno:
            raise system from error
        raise UserError(f"dvc: {': '.join(dict.fromkeys(str(cause) for cause in chain))}") from None


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
