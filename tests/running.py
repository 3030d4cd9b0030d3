"""A pipeline run that works on one stage, and the processes below it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
from checkouts import command, environment


def begun(folder: Path, stage: str, **pipes: int) -> subprocess.Popen:
    """A run that works on ``stage`` now, which it was told to do again."""
    process = subprocess.Popen(
        command("run", "--force", stage), cwd=folder, env=environment(), text=True, start_new_session=True, **pipes
    )
    wait_for_stage(folder, process, stage)
    return process


def wait_for_stage(folder: Path, process: subprocess.Popen, stage: str) -> None:
    """Until ``stage`` has begun its work below ``process``."""
    events = folder / ".stillroom" / "events.jsonl"
    events.unlink(missing_ok=True)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        text = events.read_text() if events.exists() else ""
        if f'"kind":"start","stage":"{stage}"' in text:
            time.sleep(0.3)
            return
        time.sleep(0.02)
    raise AssertionError(f"{stage} did not start")


def stages_below(folder: Path) -> list[int]:
    """The processes that run a stage in ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and any(part in ("components", "components.forking") for part in line):
            found.append(process.pid)
    return found
