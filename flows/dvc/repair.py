"""Lock repair: remove what DVC left half-written when it was killed.

DVC truncates ``.dvc/tmp/rwlock``, which lists the processes that read and write just now, before it writes it.  After a
``kill -9`` in between DVC refuses to work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def repair(root: Path, *, say: Callable[[str], None]) -> None:
    """Remove the rwlock of the checkout ``root`` if a killed DVC left it damaged; say so.

    It is removed under DVC's own lock of that file, so no living process loses its entry.
    """
    from dvc.lock import make_lock

    folder = root / ".dvc/tmp"
    if folder.is_dir() and _damaged(folder / "rwlock"):
        with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
            if _damaged(folder / "rwlock"):
                (folder / "rwlock").unlink()
                say("Removed a damaged DVC lock file that an interrupted run had left.")


def _damaged(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False
