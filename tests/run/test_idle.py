"""`Nothing to do` is said without DVC and MLflow, and only where they would say the same."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest
from checkouts import ROOT, edit, environment, git, python_path, stillroom
from registered import copied, versions

from flows.history import ledger
from flows.registry import publish, quick
from flows.registry.mlflow import MANIFEST_TAG
from flows.registry.versions import Versions
from flows.run import idle, launch

pytestmark = pytest.mark.slow(2)


@pytest.fixture
def here(two, tmp_path, monkeypatch):
    return copied(two, tmp_path / "checkout", monkeypatch)


def found(state):
    return idle.found(state, lambda line: None)


def test_it_says_what_mlflow_says_and_a_run_imports_neither_it_nor_dvc(here):
    told = found(here)
    assert told is not None and told.broken == []
    assert told.result == publish.published(here)[0]
    code = (
        "import json, sys; from flows.cli import app; sys.argv[1:] = ['run']\n"
        "try: app.main()\n"
        "finally: print(json.dumps(sorted(sys.modules)))"
    )
    own = environment() | {"PYTHONPATH": python_path(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=here.root, env=own, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Nothing to do: every stage is up to date and registered.\n")
    assert done.stderr.startswith("source noto-emoji: 90 files")
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert not loaded & {"dvc", "mlflow", "prefect", "sqlalchemy", "numpy", "torch", "pyarrow"}


def test_the_status_is_the_same_whoever_is_asked(here, capsys, monkeypatch):
    launch.status(here)
    quickly = capsys.readouterr().out
    monkeypatch.setattr(quick, "published", lambda *_: None)
    launch.status(here)
    assert capsys.readouterr().out == quickly
    assert quickly.startswith(
        "stale: nothing\nregistered: models:/denoiser/2 is registered. The champion is version 1."
    )


def test_an_editors_dangling_link_in_the_code_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/.#edited.py").symlink_to("user@host.123:456")
    monkeypatch.setattr(idle.imports, "ROOT", tmp_path)
    assert idle._code() == idle._code()


def test_a_server_of_mlflow_is_asked(here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert found(here) is None


def flipped(state, number):
    held = versions(state)
    path = next(held.tracker.local_folder(held.numbered(number).source).rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def opened(state):
    """An intent without an outcome, as a kill leaves it."""
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Versions, "point", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        publish.promote(state, 2, "cut off")


BREAKS = {
    "a parameter": lambda state: edit(state.root, "report", magnify=9),
    "a parameter that is none": lambda state: edit(state.root, "report", magnifi=9),
    "an output": lambda state: (state.root / "reports/data.html").write_text("by hand"),
    "an output that is not here": lambda state: (state.root / "reports/data.html").unlink(),
    "a source": lambda state: (state.root / "source.zip").write_bytes((state.root / "source.zip").read_bytes()[:-2]),
    "the champion's bytes": lambda state: flipped(state, 1),
    "the version's bytes": lambda state: flipped(state, 2),
    "the alias moved": lambda state: versions(state).client.set_registered_model_alias("denoiser", "champion", 2),
    "the alias lost": lambda state: versions(state).client.delete_registered_model_alias("denoiser", "champion"),
    "the version deleted": lambda state: versions(state).client.delete_model_version("denoiser", "2"),
    "the manifest's tag": lambda state: versions(state).client.set_model_version_tag("denoiser", 1, MANIFEST_TAG, "0"),
    "the experiment": lambda state: versions(state).client.delete_experiment("1"),
    "the database lost": lambda state: (state.folder / "mlflow/mlflow.db").unlink(),
    "the database damaged": lambda state: (state.folder / "mlflow/mlflow.db").write_bytes(b"x" * 5000),
    "another form of database": lambda state: sqlite3.connect(state.folder / "mlflow/mlflow.db").execute(
        "ALTER TABLE model_versions RENAME COLUMN source TO origin"
    ),
    "the ledger lost": lambda state: [
        git(state.root, "update-ref", "-d", name)
        for name in git(state.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split()
    ],
    "a decision that was cut off": opened,
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_not_plainly_as_it_should_be_is_left_to_the_slow_way(here, name):
    if name in ("a parameter", "the champion's bytes"):  # what is remembered hides nothing
        assert found(here) is not None
    BREAKS[name](here)
    assert found(here) is None


def test_an_output_that_comes_back_from_the_cache_is_nothing_to_do_either(here):
    before = (here.root / "reports/data.html").read_bytes()
    (here.root / "reports/data.html").unlink()
    done = stillroom(here.root, "run")
    assert done.returncode == 0 and done.stdout.startswith("Nothing to do"), done.stderr
    assert (here.root / "reports/data.html").read_bytes() == before
