"""What a person sees in Prefect and MLflow: runs named by what they did, no Python data in the log."""

import sqlite3

import pytest

from flows.registry.mlflow import Tracker
from flows.workspace.paths import State

pytestmark = pytest.mark.slow


def test_runs_are_named_by_what_they_did_and_the_log_is_plain_text(finished):
    folder, _ = finished
    with sqlite3.connect(f"file:{folder}/.stillroom/prefect/prefect.db?mode=ro", uri=True) as database:
        (flow,) = [row[0] for row in database.execute("select name from flow_run")]
        tasks = {row[0] for row in database.execute("select name from task_run")}
        lines = [row[0] for row in database.execute("select message from log")]
    tracker = Tracker(State(folder), State(folder).database)
    (run,) = tracker.client.search_runs([tracker.experiment])
    assert flow == run.info.run_name and flow.startswith("v1: 90 images, KID ")
    assert {"collect", "train", "register"} <= tasks
    assert any("images kept in" in line for line in lines)
    assert not [line for line in lines if "{'" in line or "Counter(" in line]
    # MLflow's charts come in the order of the names, and people look at the curves first.
    charts = sorted(run.data.metrics)
    assert charts[:2] == ["Curves/loss", "Curves/x0_error"]
    for name in ("loss", "x0_error"):
        points = [tracker.client.get_metric_history(run.info.run_id, f"{room}/{name}") for room in ("Curves", "train")]
        first, second = ([(point.step, point.value) for point in each] for each in points)
        assert first == second and len(first) > 1
    names = {path.name for path in tracker.local_folder(run.info.artifact_uri).iterdir()}
    assert {"changes.md", "decision.json"} <= names
