"""Command lines timed, interpreter start included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5


def measure(folder: Path, *command: str, code: Path) -> tuple[float, float]:
    """Median (wall, CPU) seconds of ``command`` with its children, after one round to warm up."""
    found = []
    for _ in range(ROUNDS + 1):
        before, began = os.times(), time.perf_counter()
        call(folder, *command, code=code)
        after = os.times()
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        found.append((time.perf_counter() - began, cpu))
    wall, cpu = (sorted(each[at] for each in found[1:])[ROUNDS // 2] for at in (0, 1))
    return wall, cpu


def call(folder: Path, *command: str, code: Path) -> None:
    """Run ``command`` in ``folder`` with our code of the folder ``code``; its output only when it fails."""
    own = os.environ | {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(code),
                        "DVC_SITE_CACHE_DIR": str(folder / ".stillroom/dvc")}  # fmt: skip
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])
    done = subprocess.run(command, cwd=folder, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
