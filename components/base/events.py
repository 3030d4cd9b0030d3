"""Progress, metrics and log lines of a running stage, as a stream of events.

Under a flow the environment variable ``STILLROOM_EVENTS`` names a file, to which each event is appended
as one line of JSON; the flow draws the progress bar, logs the lines and sends the metrics to MLflow.  Without
it (a stage run by hand) progress goes to standard error.  No event reaches an output file.

    {"kind": "progress", "done": 128, "total": 3000, "unit": "images", "rate": 151.2, "note": "loss 0.12"}
    {"kind": "metrics", "step": 128, "values": {"loss": 0.12}}
    {"kind": "log", "level": "INFO", "message": "..."}
    {"kind": "file", "path": "/.../000000000128.png", "folder": "samples"}  # for who watches; kept with the metrics
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType

VARIABLE = "STILLROOM_EVENTS"
_TERMINAL_EVERY, _PLAIN_EVERY = 0.2, 15.0  # seconds between two drawings of progress


def emit(**event: object) -> bool:
    """Append one event to the file; False when no file is named or it cannot be written."""
    path = os.environ.get(VARIABLE)
    if not path:
        return False
    line = json.dumps(event, separators=(",", ":"), default=str) + "\n"
    try:
        with open(path, "a", encoding="utf-8") as stream:  # one small O_APPEND write: lines do not mix
            stream.write(line)
    except OSError:
        return False
    return True


def metrics(values: Mapping[str, float], *, step: int) -> None:
    """Report ``values`` at ``step`` (images seen); those that are not finite are left out."""
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    emit(kind="metrics", step=step, values=finite)


class Progress:
    """Counts towards ``total``, with the rate and the time left; use as a context manager."""

    def __init__(self, total: int, *, what: str, unit: str = "images", start: int = 0) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done = self._start = start
        self._began = time.monotonic()
        self._shown = self._began
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._show(note="")
        if self._terminal and VARIABLE not in os.environ:
            sys.stderr.write("\n")

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Count ``count`` more; draw at most five times a second (every 15 s without a terminal)."""
        self.done += count
        watched = self._terminal or VARIABLE in os.environ
        if time.monotonic() - self._shown >= (_TERMINAL_EVERY if watched else _PLAIN_EVERY):
            self._show(note)

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return (self.done - self._start) / max(1e-9, time.monotonic() - self._began)

    def _show(self, note: str) -> None:
        self._shown = time.monotonic()
        if emit(kind="progress", what=self.what, done=self.done, total=self.total, unit=self.unit,
                rate=round(self.rate, 2), note=note):  # fmt: skip
            return
        left = (self.total - self.done) / self.rate if self.rate > 0 else math.inf
        line = f"{self.what} {self.done}/{self.total} {self.unit}, {self.rate:.0f}/s, {clock(left)} left"
        line = f"{line} {note}"
        sys.stderr.write(f"\r{line:<78}" if self._terminal else f"{line}\n")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``; ``?`` when it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class EventHandler(logging.Handler):
    """Sends log records as events; to standard error when no file is named."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        message = self.format(record)
        if not emit(kind="log", level=record.levelname, message=message):
            sys.stderr.write(f"{message}\n")
