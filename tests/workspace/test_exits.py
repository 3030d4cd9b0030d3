"""How a command ends: an error of the machine is one line that names the place."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

from flows.workspace import exits, paths


def test_a_full_disk_that_no_file_is_named_for_names_the_fullest_place(tmp_path, monkeypatch, capsys):
    state = paths.State(tmp_path)
    state.folder.mkdir()
    monkeypatch.setattr(paths, "entered", [state])
    room = {state.folder: 4096}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=room.get(place, 10**9)))

    def write():
        raise RuntimeError("MLflow says no") from OSError(errno.ENOSPC, "No space left on device")

    assert exits.exit_code(write) == 2
    assert capsys.readouterr().err.startswith(f"error: {state.folder}: the disk is full: ")
