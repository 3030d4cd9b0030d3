"""The flow hears what a stage says: log lines, progress and metrics."""

import json
import logging
import os
import subprocess
import sys

from components.base import events
from flows.workspace.events import following


def test_lines_metrics_and_progress_arrive_before_the_body_is_left(tmp_path, caplog, monkeypatch):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "log", "level": "INFO", "message": "from an earlier stage"}\n')
    monkeypatch.setenv(events.VARIABLE, str(path))
    points = []
    caplog.set_level(logging.INFO)
    with following(path, "train", log=logging.getLogger("t"), metrics=lambda *point: points.append(point)):
        events.metrics({"loss": 0.5, "broken": float("nan")}, step=16)
        handler = events.EventHandler()
        handler.emit(logging.LogRecord("x", logging.WARNING, "x", 1, "a %s line", ("careful",), None))
        with events.Progress(2, what="train") as progress:
            progress.advance(2, note="loss 0.5")
    assert points == [("train", 16, {"loss": 0.5})]
    assert ("t", logging.WARNING, "a careful line") in caplog.record_tuples
    assert not any("earlier" in record[2] for record in caplog.record_tuples)


def test_a_tracking_server_that_fails_stops_the_metrics_and_not_the_stage(tmp_path, caplog, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.VARIABLE, str(path))
    calls = []

    def fail(*point):
        calls.append(point)
        raise ConnectionError("gone")

    with following(path, "train", log=logging.getLogger("t"), metrics=fail):
        for step in range(3):
            events.metrics({"loss": 1.0}, step=step)
    assert len(calls) == 1
    assert "metrics are not streamed to MLflow: gone" in caplog.text


def test_a_file_for_who_watches_is_handed_on_and_one_that_cannot_be_kept_stops_nothing(tmp_path, caplog, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.VARIABLE, str(path))
    kept = []

    def keep(stage, path, folder):
        kept.append((stage, path.name, folder))
        if path.name == "2.png":
            raise ConnectionError("gone")

    (tmp_path / "2.png").touch()
    with following(path, "train", log=logging.getLogger("t"), metrics=lambda *_: None, files=keep):
        for name in ("1.png", "2.png", "3.png"):
            events.emit(kind="file", path=str(tmp_path / name), folder="samples")
    assert kept == [("train", "1.png", "samples"), ("train", "2.png", "samples")]
    assert "2.png is not in MLflow: gone" in caplog.text


def test_progress_without_a_watcher_goes_to_standard_error():
    code = "from components.base import events\nwith events.Progress(10, what='clean') as p:\n    p.advance(10)\n"
    env = {k: v for k, v in os.environ.items() if k != events.VARIABLE}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "clean 10/10 images" in done.stderr and "left" in done.stderr


def test_events_of_two_processes_do_not_mix(tmp_path):
    path = tmp_path / "events.jsonl"
    code = "from components.base import events\nfor i in range(500): events.emit(kind='log', message='x' * 300)\n"
    env = {**os.environ, events.VARIABLE: str(path)}
    both = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    lines = path.read_text().splitlines()
    assert len(lines) == 1000
    assert all(json.loads(line)["message"] == "x" * 300 for line in lines)


def test_time_left_reads_like_a_clock():
    assert [events.clock(seconds) for seconds in (0, 59.6, 61, 3661, float("inf"))] == [
        "0:00",
        "1:00",
        "1:01",
        "1:01:01",
        "?",
    ]


def test_a_file_that_is_gone_and_half_a_line_are_passed_over(tmp_path, caplog, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.VARIABLE, str(path))
    kept = []
    (tmp_path / "2.png").touch()
    with following(path, "train", log=logging.getLogger("t"), metrics=lambda *_: None,
                   files=lambda _, file, __: kept.append((file.name, file.read_bytes()))):  # fmt: skip
        events.emit(kind="file", path=str(tmp_path / "1.png"), folder="samples")
        with path.open("a") as stream:
            stream.write('{"kind": "log", "lev\n\n')
        events.emit(kind="file", path=str(tmp_path / "2.png"), folder="samples")
    assert kept == [("2.png", b"")] and not caplog.text
