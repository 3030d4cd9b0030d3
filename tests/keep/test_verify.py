"""`stillroom verify`: a line for each fault of a version or of what an alias names, and exit code 1."""

from __future__ import annotations

import pytest
from checkouts import git, stillroom
from registered import versions

from flows.keep import verify

pytestmark = pytest.mark.slow(10)


def found(state):
    faults: list[str] = []
    count = verify.verify(state, fault=faults.append, well=lambda _: None)
    assert count == len(faults)
    return faults


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_a_sound_registry_has_no_fault_and_each_fault_is_one_line(lived_in):
    assert found(lived_in) == []
    held = versions(lived_in)
    damage(next(held.tracker.local_folder(held.numbered(2).source).rglob("*.safetensors")))
    held.client.delete_registered_model_alias("denoiser", "champion")
    lost, files = sorted(found(lived_in), key=lambda line: "version 2" in line)
    assert lost == "denoiser@champion: MLflow has lost the alias: `stillroom sync` sets it again"
    assert files.startswith("denoiser version 2 (challenger): files: ") and "`stillroom sync`" in files


def test_more_than_the_bytes_is_looked_at_where_an_alias_points(lived_in):
    held = versions(lived_in)
    held.client.delete_run(held.champion().run_id)
    git(lived_in.root, "checkout", "--quiet", "--orphan", "other")
    git(lived_in.root, "-c", "user.name=t", "-c", "user.email=t@l", "commit", "--quiet", "-m", "another")
    git(lived_in.root, "branch", "-D", "main")
    faults = found(lived_in)
    assert any("version 1 (champion): MLflow run: " in line for line in faults)
    assert sum("lies on no branch or tag" in line for line in faults) == 2
    held.client.delete_registered_model_alias("denoiser", "challenger")
    assert not any("version 2" in line and "branch" in line for line in found(lived_in)), "its bytes alone count"


def test_the_command_prints_a_line_for_each_and_ends_with_1_where_one_is_a_fault(lived_in):
    done = stillroom(lived_in.root, "verify")
    whole = [f"denoiser version {number}: every byte as recorded" for number in ("1 (champion)", "2 (challenger)")]
    assert (done.returncode, done.stdout.splitlines()) == (0, whole)
    held = versions(lived_in)
    held.client.delete_run(held.champion().run_id)
    done = stillroom(lived_in.root, "verify")
    assert done.returncode == 1 and done.stdout.startswith("denoiser version 1 (champion): MLflow run: "), done.stdout
    assert done.stdout.splitlines()[1:] == whole[1:]
    (lived_in.folder / "mlflow/mlflow.db").write_text("no database")
    done = stillroom(lived_in.root, "verify")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: MLflow at "), done.stderr
