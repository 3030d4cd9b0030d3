"""The whole, as a user runs it: real git, DVC, Prefect and MLflow in a small checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkouts import edit, emoji, environment, git, make, stillroom, tree, with_prefect
from running import begun, stages_below

from components.base import config
from components.pipeline import PIPELINE
from flows.dvc import engine
from flows.history import store
from flows.registry import chain
from flows.registry.mlflow import RUN_KEY, Tracker
from flows.registry.versions import Versions
from flows.workspace.paths import State

pytestmark = pytest.mark.slow
OUTPUTS = ("data/raw", "data/clean", "data/pixels", "data/splits", "models", "reports", "metrics")


@pytest.fixture
def copy(finished, tmp_path):
    """The finished checkout in a place of its own, to change."""
    target = tmp_path / "checkout"
    shutil.copytree(finished[0], target, symlinks=True)
    with_prefect(target)
    return target


def versions(folder: Path) -> Versions:
    state = State(folder)
    return Versions(Tracker(state, state.database), "denoiser")


def outputs(folder: Path) -> dict[str, bytes]:
    return {f"{name}/{path}": data for name in OUTPUTS for path, data in tree(folder / name).items()}


def test_one_command_ends_with_a_champion_and_says_where_to_look(finished):
    folder, done = finished
    champion = versions(folder).champion()
    assert int(champion.version) == 1
    assert champion.tags["stillroom.decision"] == "promoted"
    for wanted in (
        "models:/denoiser/1 is the champion. Promoted: the first version in this registry.",
        "reports/data.html",
        "reports/model.html",
        "reports/decision.html",
        "stillroom sample",
        "stillroom ui",
    ):
        assert wanted in done.stdout
    for stage in PIPELINE:
        assert f"{stage.name}  executed" in done.stderr
        assert (folder / stage.metrics).is_file()
        assert all((folder / path).exists() for path in stage.writes.values())
    assert "Traceback" not in done.stderr


def test_a_second_run_changes_nothing_and_says_so_within_seconds(finished):
    folder, _ = finished
    before, lock = outputs(folder), (folder / "dvc.lock").read_bytes()
    began = time.monotonic()
    done = stillroom(folder, "run")
    assert time.monotonic() - began < 60  # 2 s on an idle machine; the training alone takes longer
    assert done.returncode == 0
    assert done.stdout.startswith("Nothing to do: every stage is up to date and registered.")
    assert (outputs(folder), (folder / "dvc.lock").read_bytes()) == (before, lock)
    assert len(versions(folder).all()) == 1


@pytest.mark.slow(35)
def test_dvc_by_hand_gives_the_same_lock_and_the_same_bytes(finished, tmp_path):
    folder, _ = finished
    other = make(tmp_path / "elsewhere" / "checkout")
    assert stillroom(other, "look").returncode == 0
    env = {**environment(), "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc")}
    done = subprocess.run(["dvc", "repro"], cwd=other, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (other / "dvc.lock").read_bytes() == (folder / "dvc.lock").read_bytes()
    made = outputs(folder)
    made.pop("reports/decision.html")  # of the gate, which is not a stage
    assert outputs(other) == made


def test_nothing_made_here_names_this_machines_folders(finished):
    folder, _ = finished
    for name, data in outputs(folder).items():
        assert str(folder).encode() not in data, name


def test_an_mlflow_run_holds_the_whole_pipeline_run(finished):
    folder, _ = finished
    state = State(folder)
    tracker = Tracker(state, state.database)
    runs = tracker.client.search_runs([tracker.experiment])
    assert [run.info.status for run in runs] == ["FINISHED"]
    run = runs[0]
    done = store.current(folder)
    assert run.data.tags[RUN_KEY] == done.key
    assert run.data.tags["mlflow.source.git.commit"] == git(folder, "rev-parse", "HEAD").strip()
    assert {run.data.tags[f"stillroom.stage.{stage.name}"] for stage in PIPELINE} == {"executed"}
    assert run.data.params["resize.side"] == "16"
    for name, value in done.metrics.items():
        assert run.data.metrics[name] == pytest.approx(value), name
    losses = tracker.client.get_metric_history(run.info.run_id, "train/loss")
    logged = [json.loads(line) for line in (folder / "models/candidate/history.jsonl").read_text().splitlines()]
    assert {(m.step, m.value) for m in losses} == {(row["step"], row["loss"]) for row in logged if "loss" in row}
    kept = {path.name for path in tracker.local_folder(run.info.artifact_uri).iterdir()}
    assert {"params.yaml", "dvc.lock", "decision.json", "reports", "samples.png", "denoiser"} <= kept


def test_a_lost_database_comes_back_by_sync_and_sync_changes_nothing_twice(copy):
    def mirrored() -> tuple:
        state = State(copy)
        tracker = Tracker(state, state.database)
        found = Versions(tracker, "denoiser")
        run = tracker.client.search_runs([tracker.experiment])
        metrics = [r.data.metrics for r in run]
        history = [tracker.client.get_metric_history(r.info.run_id, "train/loss") for r in run]
        points = [sorted((m.step, m.value) for m in h) for h in history]
        tags = dict(found.champion().tags)
        return len(run), metrics, points, [r.data.params for r in run], found.champion().version, tags

    shutil.rmtree(copy / ".stillroom")
    first = stillroom(copy, "sync")
    assert first.returncode == 0, first.stderr
    assert "1 pipeline run(s) in MLflow" in first.stdout
    before = mirrored()
    assert before[0] == 1 and before[-1]["stillroom.decision"] == "promoted"
    assert stillroom(copy, "sync").returncode == 0
    assert mirrored() == before


def test_a_run_after_a_lost_database_trains_nothing_and_puts_the_champion_back(copy):
    shutil.rmtree(copy / ".stillroom")
    done = stillroom(copy, "run")
    assert done.returncode == 0, done.stderr
    assert "executed" not in done.stderr
    assert int(versions(copy).champion().version) == 1


def test_added_images_move_none_and_the_gate_compares_with_the_champion(copy):
    import pandas

    def places() -> dict:
        table = pandas.read_parquet(copy / "data/splits/splits.parquet")
        return dict(zip(table["sha256"], table["split"], strict=True))

    before = places()
    raw = tree(copy / "data/raw")
    emoji(copy / "source.zip", 120)
    edit(copy, "evaluate", sweep=[1])  # for `knee_is_answered_for`, which needs a run of its own otherwise
    done = stillroom(copy, "run")
    assert done.returncode == 0, done.stderr
    after = places()
    assert len(after) > len(before)
    assert "reports/changes.html" in done.stdout and "Added" in (copy / "reports/changes.html").read_text()
    assert {key: after[key] for key in before} == before
    assert all(tree(copy / "data/raw")[name] == data for name, data in raw.items() if name.startswith("shard"))
    found = versions(copy).all()
    assert [int(version.version) for version in found] == [1, 2]
    decision = found[1].tags["stillroom.decision"]
    assert int(versions(copy).champion().version) == (2 if decision == "promoted" else 1)
    runs = store.all_runs(copy)
    assert [bool(p.about["decision"]["promote"]) for p in runs] == [True, decision == "promoted"]
    assert runs[1].about["decision"]["against"] == "denoiser version 1"
    knee_is_answered_for(copy, versions(copy), found[1])


def knee_is_answered_for(folder, known, version):
    """``version`` was trained for 2 steps, and a sweep chose 1: so it draws by default, and lineage says why."""
    parts = ("model", "knee")
    model, knee = chain.verify_chain(known, version, only=parts)
    assert model.holds and re.fullmatch(r"\d+ files of stage train, 8 of stage evaluate", model.found)
    assert knee.holds and knee.found.startswith("1 steps, by the sweep of stage evaluate")
    assert knee.found.endswith("stage train wrote 2")
    with known.folder(version) as bundled:
        assert json.loads((bundled / "stillroom.json").read_text())["steps"] == 1
        assert len(json.loads((bundled / "onnx/levels.json").read_text())) == 1
    planned = stillroom(folder, "sample", "--model", "models:/denoiser/2", "--dry-run")
    assert "by dpmpp_2m, 1 steps from" in planned.stdout, planned.stderr
    held = engine.cached(folder, engine.output(store.current(folder).stages, "evaluate", "models/evaluation"))
    notes = held["knee/stillroom.json"]
    said = json.loads(notes.read_text())
    notes.unlink()
    notes.write_text(json.dumps({**said, "guidance": 9.0}))
    assert [link.name for link in chain.verify_chain(known, version, only=parts) if not link.holds] == ["model", "knee"]
    assert not [link for link in chain.verify_chain(known, known.numbered(1), only=parts) if not link.holds]


def test_going_back_to_old_parameters_restores_and_moves_no_alias(two, tmp_path):
    """Same inputs are the same pipeline run: nothing is trained, no version is made, no decision is taken twice."""
    folder = tmp_path / "checkout"
    shutil.copytree(two, folder, symlinks=True)
    with_prefect(folder)
    champion = versions(folder).champion().version
    page = (folder / "reports/decision.html").read_text()
    assert "denoiser version 2: " in page and "Compared with denoiser version 1" in page
    assert page.count('src="data:image/png;base64,') == 2 and "report.magnify" in page
    edit(folder, "report", magnify=config.read(folder / config.FILE)["report"]["magnify"] - 1)
    done = stillroom(folder, "run")
    assert done.returncode == 0, done.stderr
    assert "report  restored" in done.stderr
    assert [int(version.version) for version in versions(folder).all()] == [1, 2]
    assert versions(folder).champion().version == champion


@pytest.mark.slow(40)
def test_a_run_that_is_stopped_or_killed_leaves_nothing_half_written_and_the_next_goes_on(copy, finished):
    stopped(copy, "clean", signal.SIGTERM)
    stopped(copy, "train", signal.SIGINT)
    process = begun(copy, "train", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while stages_below(copy) and time.monotonic() < until:
        time.sleep(0.1)
    assert not stages_below(copy)
    done = stillroom(copy, "run")
    assert done.returncode == 0, done.stderr
    assert outputs(copy) == outputs(finished[0])
    state = State(copy)
    tracker = Tracker(state, state.database)
    runs = tracker.client.search_runs([tracker.experiment])
    assert "RUNNING" not in {run.info.status for run in runs}, "the killed run is closed by the next"


def stopped(folder: Path, stage: str, number: signal.Signals) -> None:
    """Stop a run while it works on ``stage``: it says so in one line, and leaves no process and no torn file."""
    process = begun(folder, stage, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # A terminal sends Ctrl-C to the whole group, a service manager SIGTERM to the process.
    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert stderr.splitlines()[-1].startswith("error: stopped by "), stderr
    assert "Traceback" not in stderr and stderr.count("error: ") == 1, stderr
    assert not stages_below(folder)
    assert not half_written(folder)


# Every stage leaves both signals to one handler; one stage gets both, the others take turns.
STOPS = [(stage.name, (signal.SIGTERM, signal.SIGINT)[at % 2]) for at, stage in enumerate(PIPELINE)]
STOPS += [("collect", signal.SIGINT)]


@pytest.mark.parametrize(("stage", "number"), STOPS)
def test_a_stopped_stage_says_so_in_one_line_and_its_outputs_stay_whole(finished, tmp_path, stage, number):
    """As `dvc repro` by hand would run it, but for DVC."""
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True, ignore=shutil.ignore_patterns(".stillroom", "cache", ".git"))
    before = outputs(folder)
    line = [sys.executable, "-m", "components", stage]
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, stage], cwd=folder, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "started\n", process.stderr.read()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    errors = [one for one in stderr.splitlines() if one.startswith("error: ")]
    if process.returncode:  # else it was done before the signal came
        assert process.returncode == 128 + number, stderr
        assert errors == [errors[0]] and f"was stopped by {number.name}" in errors[0], stderr
    assert "Traceback" not in stderr, stderr
    assert outputs(folder) == before
    assert not half_written(folder)
    assert subprocess.run(line, cwd=folder, env=environment(), capture_output=True, check=False).returncode == 0
    assert outputs(folder) == before


STARTED = """
import sys
from components import __main__ as entry, pipeline
run = pipeline.Stage.run
def started(stage, params, root):
    print("started", flush=True)
    return run(stage, params, root)
pipeline.Stage.run = started
sys.exit(entry.main(sys.argv[1:]))
"""
"""Runs a stage as ``python -m components`` does, and says when its work begins."""


def half_written(folder: Path) -> list[Path]:
    """What was written beside its place and not yet renamed."""
    return [p for name in ("data", "models", "reports", "metrics") for p in (folder / name).rglob("*.beside-*")]


def test_the_key_of_a_run_names_its_inputs(finished):
    folder, _ = finished
    stages = engine.lock(folder)
    key = engine.key(stages)
    assert key == engine.key(json.loads(json.dumps(stages)))
    stages["train"]["params"]["params.yaml"]["train"]["seed"] = 99
    assert engine.key(stages) != key
