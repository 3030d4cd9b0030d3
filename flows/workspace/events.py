"""The event stream of a running stage: draw its progress, log its lines, pass its metrics on."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from components.base.events import clock

MetricSink = Callable[[str, int, dict[str, float]], None]
"""Takes the stage's name, a step and the values of its metrics at that step."""

FileSink = Callable[[str, Path, str], None]
"""Takes the stage's name, a file that it wrote for who watches, and the name of the folder where it belongs."""

_POLL = 0.2  # seconds between two looks at the file
_LOG_EVERY = 30.0  # seconds between two lines of progress in a log


@contextlib.contextmanager
def following(
    path: Path, stage: str, *, log: logging.Logger | logging.LoggerAdapter, metrics: MetricSink,
    files: FileSink = lambda *_: None,
) -> Iterator[None]:  # fmt: skip
    """While the body runs, handle the events appended to ``path``, all of them before returning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.stat().st_size if path.exists() else 0
    follower = _Follower(path, start, stage, log, metrics, files)
    over = threading.Event()
    thread = threading.Thread(target=follower.run, args=(over,), name=f"follow {stage}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


class _Follower:
    def __init__(self, path: Path, start: int, stage: str, log: Any, metrics: MetricSink, files: FileSink) -> None:
        self.path, self.at, self.stage, self.log, self.metrics, self.files = path, start, stage, log, metrics, files
        self.bar: Progress | None = _bar() if sys.stderr.isatty() else None
        self.task: Any = None
        self.logged = time.monotonic()
        self.rest = b""

    def run(self, over: threading.Event) -> None:
        """Read until ``over`` is set and nothing is left."""
        with self.bar or contextlib.nullcontext():
            while True:
                last = over.is_set()
                for event in self._read():
                    self._handle(event)
                if last:
                    return
                over.wait(_POLL)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as stream:
            stream.seek(self.at)
            text = self.rest + stream.read()
            self.at = stream.tell()
        *lines, self.rest = text.split(b"\n")
        events = []
        for line in lines:
            with contextlib.suppress(ValueError):  # written by halves when the disk was full: one is lost, not the rest
                events.append(json.loads(line))
        return events

    def _handle(self, event: dict[str, Any]) -> None:
        if event["kind"] == "progress":
            self._progress(event)
        elif event["kind"] == "metrics":
            try:
                self.metrics(self.stage, event["step"], event["values"])
            except Exception as error:  # best effort: `stillroom sync` completes them
                self.log.warning("metrics are not streamed to MLflow: %s", error)
                self.metrics = lambda *_: None
        elif event["kind"] == "file":
            self._file(Path(event["path"]), event["folder"])
        elif event["kind"] == "log":
            self.log.log(logging.getLevelName(event["level"]), "%s", event["message"])

    def _file(self, path: Path, folder: str) -> None:
        try:
            self.files(self.stage, path, folder)
        except Exception as error:  # best effort: the file lies where it was written
            if not path.exists():  # its stage has removed it since: nothing is wrong with MLflow
                return
            self.log.warning("%s is not in MLflow: %s", path, error)
            self.files = lambda *_: None

    def _progress(self, event: dict[str, Any]) -> None:
        what, done, total = event["what"], event["done"], event["total"]
        left = (total - done) / event["rate"] if event["rate"] else float("inf")
        tail = f"{event['rate']:.0f} {event['unit']}/s, {clock(left)} left {event['note']}".rstrip()
        if self.bar:
            if self.task is None or self.bar.tasks[self.task].description != what:
                self.task = self.bar.add_task(what, total=total, tail=tail)
            self.bar.update(self.task, completed=done, total=total, tail=tail)
        elif time.monotonic() - self.logged >= _LOG_EVERY:
            self.logged = time.monotonic()
            line = f"{what}: {done} of {total} {event['unit']}, {tail}"
            self.log.info("%s", line)
            print(line, file=sys.stderr, flush=True)  # a terminal has the bar; a log file gets this


class _Tail(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Rate, time left and the stage's own note."""
        return Text(task.fields["tail"], no_wrap=True, overflow="ellipsis")


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        _Tail(),
    )
    return Progress(*columns, console=Console(stderr=True))
