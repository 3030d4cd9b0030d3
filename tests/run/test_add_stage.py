"""Adding a stage is the three steps of docs/architecture.md, and nothing else."""

import json
import subprocess
import sys

import pytest
from checkouts import edit, environment, from_its_code, make

PACKAGE = {
    "__init__.py": '"""Counts of the sources."""\n',
    "params.py": '''"""Section ``census`` of params.yaml."""

from pydantic import Field

from components.base.params import Params


class CensusParams(Params):
    """What is counted."""

    factor: int = Field(ge=1, description="counts each file this many times, 1 or more")
''',
    "stage.py": '''"""Count what the sources hold."""

import json
from pathlib import Path

from components.base import files
from components.census.params import CensusParams


def census(params: CensusParams, *, look: Path, counts: Path) -> dict[str, float]:
    """Count the files of all sources."""
    found = sum(source["files"] for source in json.loads(look.read_text("utf-8"))["sources"])
    files.write_text(counts, f"{found}\\n")
    return {"files": found * params.factor}
''',
}
LINE = '    Stage(name="census", reads={"look": "data/source.json"}, writes={"counts": "data/counts.txt"}),\n'


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout to which stage `census` has been added by the three steps."""
    folder = make(tmp_path_factory.mktemp("added") / "checkout", pictures=3)
    # 1. the package
    (folder / "components/census").mkdir()
    for name, text in PACKAGE.items():
        (folder / "components/census" / name).write_text(text)
    # 2. one line of the table, one section
    table = folder / "components/pipeline.py"
    head, rest = table.read_text("utf-8").split("PIPELINE = (\n")
    table.write_text(f"{head}PIPELINE = (\n{LINE}{rest}")
    with (folder / "params.yaml").open("a") as stream:
        stream.write("\ncensus:\n  factor: 2\n")
    # 3. `make dvc`
    for name in ("dvcyaml", "schema"):
        run(folder, sys.executable, "-m", f"flows.dvc.{name}")
    assert from_its_code(folder, "look").returncode == 0
    return folder


@pytest.mark.slow(6)
def test_dvc_runs_the_stage_and_keeps_its_metrics(checkout):
    edit(checkout, "census", factor=2)
    assert "Running stage 'census'" in run(checkout, "dvc", "repro", "--single-item", "census")
    found = json.loads((checkout / "data/source.json").read_text("utf-8"))["sources"][0]["files"]
    assert found == 3
    assert json.loads((checkout / "metrics/census.json").read_text("utf-8")) == {"files": 2 * found}
    assert (checkout / "data/counts.txt").read_text("utf-8") == f"{found}\n"
    assert "didn't change" in run(checkout, "dvc", "repro", "--single-item", "census")


def test_the_run_the_schema_and_the_checks_know_it(checkout):
    edit(checkout, "census", factor=3)
    done = from_its_code(checkout, "run", "--dry-run")
    assert "census" in done.stdout.split("would run: ")[1], done.stderr
    schema = json.loads((checkout / "params.schema.json").read_text("utf-8"))
    assert schema["properties"]["census"]["properties"]["factor"]["minimum"] == 1
    edit(checkout, "census", factor=0)
    done = from_its_code(checkout, "run", "--dry-run")
    assert done.returncode == 2 and "census.factor should be greater than or equal to 1" in done.stderr
