"""What some steps of a training spend their time on, by torch's profiler: a table and a trace for chrome://tracing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from components.base import events, files
from components.base.errors import brief

FIRST = 10
"""Steps before: during them memory is allocated, algorithms are chosen and a step is captured."""

_ROWS = 30

_log = logging.getLogger(__name__)


class Profile:
    """Records ``steps`` steps, none for 0, and writes ``profile.txt`` and ``profile.json`` to ``folder``."""

    def __init__(self, steps: int, folder: Path, device: torch.device) -> None:
        self.steps, self.folder, self.device = steps, folder, device
        self._profiler: Any = None

    def start(self) -> None:
        """Begin to count steps."""
        if not self.steps:
            return
        from torch.profiler import ProfilerActivity, profile, schedule

        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device.type == "cuda")
        plan = schedule(wait=FIRST - 1, warmup=1, active=self.steps, repeat=1)
        self._profiler = profile(activities=kinds, schedule=plan, on_trace_ready=self._write)
        self._profiler.start()

    def step(self) -> None:
        """Count a step."""
        if self._profiler is not None:
            self._profiler.step()
            if self.steps == 0:
                self.close()

    def close(self) -> None:
        """End, and say so where the training had too few steps."""
        if self._profiler is None:
            return
        self._profiler, running = None, self._profiler
        if self.steps:
            _log.warning("train.profile: the training ended before step %d, so nothing was written", FIRST + self.steps)
            running.on_trace_ready = lambda _: None
        running.stop()

    def _write(self, found: Any) -> None:
        by = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        self.steps = 0
        table, trace = self.folder / "profile.txt", self.folder / "profile.json"
        try:
            files.write_text(table, found.key_averages().table(sort_by=by, row_limit=_ROWS) + "\n")
            with files.replacing(trace) as beside:
                found.export_chrome_trace(str(beside))
        except OSError as error:  # a full disk is no reason to end a training that is only watched
            _log.warning("train.profile: not written: %s", brief(error))
            return
        for path in (table, trace):
            events.emit(kind="file", path=str(path.absolute()), folder="profile")
        _log.info("train.profile: where the time goes is in %s, and in profile.json beside it", table)
