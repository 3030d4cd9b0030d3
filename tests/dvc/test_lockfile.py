"""A stage is written into dvc.lock as DVC writes it, to the byte."""

from __future__ import annotations

import copy
from contextlib import chdir

import data_checkout
import pytest
from dvc.dvcfile import ProjectFile
from dvc.repo import Repo

from components.pipeline import stage
from flows.data import status
from flows.dvc import engine, lockfile
from flows.workspace.paths import State


@pytest.fixture
def mine(tmp_path):
    root = data_checkout.copied(tmp_path / "checkout")
    State(root).enter()
    with chdir(root), Repo(str(root)) as repo:
        yield root, repo


def written(root, repo, names, *, parts):
    """dvc.lock after the stages were dumped, by DVC's own way or ours."""
    before = (root / "dvc.lock").read_bytes() if (root / "dvc.lock").exists() else None
    file = ProjectFile(repo, str(root / "dvc.yaml"))
    if parts:
        lockfile.by_parts(file)
    loaded = [repo.stage.load_one(name=name) for name in names]
    for each in loaded:
        each.cmd = f"{each.cmd} --changed"
        each.outs[0].hash_info = copy.copy(each.outs[0].hash_info)
        each.outs[0].hash_info.value = "0" * 32 + ".dir"
    for each in loaded:
        file._dump_lockfile([each])
    made = (root / "dvc.lock").read_bytes()
    if before is None:
        (root / "dvc.lock").unlink()
    else:
        (root / "dvc.lock").write_bytes(before)
    return made


STAGES = [each.name for each in status.stages()]


@pytest.mark.parametrize("name", [STAGES[1], *(pytest.param(name, marks=pytest.mark.slow(1)) for name in STAGES[2:])])
def test_one_stage_is_changed_and_the_others_stay(mine, name):
    root, repo = mine
    theirs = written(root, repo, [name], parts=False)
    assert written(root, repo, [name], parts=True) == theirs
    assert theirs != (root / "dvc.lock").read_bytes()


def test_a_stage_that_is_new_comes_last(mine):
    root, repo = mine
    names = [each.name for each in status.stages()]
    text = (root / "dvc.lock").read_text()
    cut = text.index("\n  profile:")
    (root / "dvc.lock").write_text(text[: cut + 1])
    assert written(root, repo, names, parts=True) == written(root, repo, names, parts=False)


@pytest.mark.slow(1)
def test_the_first_stage_makes_the_file(mine):
    root, repo = mine
    (root / "dvc.lock").unlink()
    theirs = written(root, repo, ["collect", "clean"], parts=False)
    assert written(root, repo, ["collect", "clean"], parts=True) == theirs


@pytest.mark.slow(6)
@pytest.mark.parametrize("change", ["comment", "datasets", "another order", "no end of line"])
def test_a_file_in_another_form_is_left_to_dvc(mine, change):
    root, repo = mine
    path = root / "dvc.lock"
    text = path.read_text()
    path.write_text({
        "comment": f"# by hand\n{text}", "datasets": f"{text}datasets: []\n", "no end of line": text[:-1],
        "another order": text.replace("schema: '2.0'\n", "") + "schema: '2.0'\n",
    }[change])  # fmt: skip
    theirs = written(root, repo, ["split"], parts=False)
    ours = written(root, repo, ["split"], parts=True)
    assert ours == theirs


def test_nothing_is_written_where_nothing_changed(mine):
    root, _ = mine
    before = (root / "dvc.lock").stat()
    assert engine.reproduce(root, stage("split"), watched=State(root).events) == "unchanged"
    after = (root / "dvc.lock").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
