"""Real SIGKILLs, one before each change that a call makes on the disk."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym")


def killed_at(step: int, folder: Path, call: Callable[[], object]) -> bool:
    """Whether a process that makes ``call`` died by SIGKILL before its ``step``-th change in ``folder``.

    Changes are Python's audit events: each file opened, renamed or removed, each folder made or removed.
    """
    left = step

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in _CHANGES and (event == "ctypes.dlsym" or str(arguments[0]).startswith(str(folder))):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        code = 1
        try:
            sys.addaudithook(hook)
            call()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), f"the call failed by itself: {status}"
    return os.WIFSIGNALED(status)
