"""`stillroom sync` where DVC's cache lacks the files of versions, as in a clone without data."""

from __future__ import annotations

import pytest
from checkouts import tree
from registered import lost, told, versions

from components.base.errors import UserError
from flows.registry import publish, restore
from flows.registry.mlflow import RUN_KEY, Tracker

pytestmark = pytest.mark.slow(10)


def test_a_sync_without_the_data_says_what_is_to_be_done_and_the_next_one_lacks_nothing(here):
    before, seen = told(here), shown(here)
    assert seen and all("train/loss" in metrics and "reports/model.html" in files for metrics, files in seen.values())
    lost(here)
    (here.root / ".dvc/cache").rename(here.root / ".dvc/away")
    bare = r"^2 versions of denoiser: without files, .*: `dvc pull` .*`stillroom sync` again$"
    with pytest.raises(UserError, match=bare):
        publish.sync(here, say=lambda _: None)
    assert told(here)[0] == before[0] and not told(here)[1], "an alias points to no version without files"
    (here.root / ".dvc/away").rename(here.root / ".dvc/cache")
    publish.sync(here, say=lambda _: None)
    assert told(here) == before
    assert shown(here) == seen, "the curves and the pages came with the data"


def test_pages_that_were_erased_do_not_come_with_the_data_either(here):
    lost(here)
    (here.root / ".dvc/cache").rename(here.root / ".dvc/away")
    with pytest.raises(UserError, match="without files"):
        publish.sync(here, say=lambda _: None)
    versions(here).tracker.erase_reports()
    (here.root / ".dvc/away").rename(here.root / ".dvc/cache")
    publish.sync(here, say=lambda _: None)
    assert len(shown(here)) == 2 and not any("reports/model.html" in files for _, files in shown(here).values())


def shown(state):
    """The names of the metrics, and the files, of each pipeline run in MLflow."""
    tracker = versions(state).tracker
    return {
        run.data.tags[RUN_KEY]: (set(run.data.metrics), set(tree(tracker.local_folder(run.info.artifact_uri))))
        for run in tracker.client.search_runs([tracker.experiment])
    }


def test_what_another_machine_brings_back_at_the_same_time_is_not_taken_for_deleted(here, monkeypatch):
    before, ensure, began = told(here), Tracker.ensure, []
    lost(here)

    def after_the_other(tracker, run):
        if not began:
            began.append(True)
            restore.restore(versions(here), say=lambda _: None)
        return ensure(tracker, run)

    monkeypatch.setattr(Tracker, "ensure", after_the_other)
    lines = []
    publish.sync(here, say=lines.append)
    assert told(here) == before and not any("deleted" in line for line in lines), lines


def test_an_experiment_that_another_machine_makes_at_the_same_time_is_the_one(here, monkeypatch):
    there = versions(here).tracker.experiment
    tracker = versions(here).tracker
    tracker._experiment, ask, asked = None, tracker.client.get_experiment_by_name, []
    monkeypatch.setattr(tracker.client, "get_experiment_by_name",
                        lambda name: ask(name) if asked else asked.append(name))  # fmt: skip
    assert tracker.experiment == there
