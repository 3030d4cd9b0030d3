"""A worktree of a commit, beside the checkout, in which stages run while the checkout stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.base.errors import UserError
from flows.history import git
from flows.workspace.paths import State


@contextlib.contextmanager
def of(root: Path, commit: str, keep: Path | None = None, *, name: str = "again") -> Iterator[Path]:
    """The checkout's place in a worktree of ``commit``: ``keep``, which stays, or a folder beside the checkout.

    That one, called by ``name``, is removed at the end; where it was killed, by `stillroom gc` (flows/keep/remains.py).
    """
    above = keep or Path(tempfile.mkdtemp(prefix=f".{root.name}.{name}-", dir=root.parent))
    prefix = git.git(root, "rev-parse", "--show-prefix").strip()
    # Hooks stay out: that of `dvc install` would check out all data.
    quiet = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": os.devnull}
    try:
        git.git(root, "worktree", "add", "--quiet", "--detach", str(above), commit, extra=quiet)
        yield above / prefix
    finally:
        if keep is None:
            with contextlib.suppress(UserError):  # there is none yet
                git.git(root, "worktree", "remove", "--force", str(above))
            shutil.rmtree(above, ignore_errors=True)


@contextlib.contextmanager
def apart(place: Path) -> Iterator[None]:
    """Have DVC and torch keep what they remember in ``place`` while the body runs, and not in the checkout."""
    own = {"DVC_SITE_CACHE_DIR": "dvc", "TORCHINDUCTOR_CACHE_DIR": "torchinductor"}
    before = {name: os.environ.pop(name) for name in own if name in os.environ}
    os.environ |= {name: str(State(place).folder / folder) for name, folder in own.items()}
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        os.environ |= before
