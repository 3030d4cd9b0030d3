"""Two worktrees of one repository, each with an MLflow of its own: what the one decides, the other follows."""

import itertools
import os
import shutil
import subprocess
import sys

import pytest
from checkouts import ROOT, environment, git, python_path
from registered import published, versions

from flows.dvc import engine
from flows.history import ledger
from flows.history.known import History
from flows.registry import publish, records
from flows.registry.versions import CHAMPION, Versions
from flows.workspace.paths import State

pytestmark = pytest.mark.slow


@pytest.fixture
def there(here):
    """A worktree beside the checkout ``here``, with the same data and models and a copy of its registry."""
    folder = here.root.parent / "worktree"
    git(here.root, "worktree", "add", "--quiet", "--detach", str(folder))
    for name in ("data", "models", "metrics", "reports", "dvc.lock", "params.yaml", ".dvc", ".stillroom"):
        source, target = here.root / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    return State(folder)


def in_(state):
    """``state``, from now on the present checkout."""
    os.environ["MLFLOW_TRACKING_URI"] = state.database  # which the fixture `here` puts back
    return state


def champion(state):
    return int(versions(in_(state)).champion().version)


def test_a_promotion_in_one_worktree_is_followed_in_the_other_and_not_undone(here, there):
    for each in (here, there):
        publish.sync(in_(each), say=lambda _: None)
    publish.promote(in_(here), 2, "nicer")
    known, lines = History(here.root).records, []
    assert publish.published(in_(there)) == (None, "version 2 of denoiser was made champion elsewhere")
    publish.sync(in_(there), say=lines.append)
    assert champion(there) == 2 and "denoiser@champion is version 2 and no more 1: Promoted by hand: nicer" in lines
    for each in (here, there):
        publish.sync(in_(each), say=lambda _: None)
    assert History(here.root).records == known, "what was decided once is on record once"
    records.rollback(in_(there), "no")
    publish.promote(in_(here), 2, "yes")  # asks the ledger first
    found = [(one.version, one.intent.body["expected"]) for one in History(here.root).decided("denoiser")[-2:]]
    assert found == [(1, 2), (2, 1)] and champion(here) == 2
    versions(in_(there)).point(CHAMPION, 2)  # as a person, who goes before the ledger: it is on record as theirs
    publish.sync(in_(there), say=lambda _: None)
    assert champion(there) == 2 and publish.published(in_(there))[0]["champion"] == 2


PUBLISH = """
from pathlib import Path
from flows.registry import publish
from flows.registry.metrics import MetricStream
from flows.workspace.paths import State

state = State(Path.cwd())
state.enter()
publish.publish(state, {}, MetricStream(state), say=lambda line: print(line, flush=True))
"""


def back(state):
    """Have the working tree hold what its first pipeline run made, of which only the report differs."""
    run = History(state.root).runs[0]
    for path, content in run.files.items():
        (state.root / path).write_bytes(content)
    page = engine.cached(state.root, engine.output(run.stages, "report", "reports/model.html"))[""]
    shutil.copyfile(page, state.root / "reports/model.html")


def test_two_worktrees_that_publish_at_once_give_no_number_twice(here, there, monkeypatch):
    back(there)
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    for each in (here, there):
        shutil.rmtree(each.folder / "mlflow")
    other, true, told = None, Versions.create, []

    def slow(self, *arguments):  # has read the ledger, and has put no number on record yet
        nonlocal other
        if other is None:
            other = subprocess.Popen(
                [sys.executable, "-c", PUBLISH], cwd=there.root, env=environment() | {"PYTHONPATH": python_path(ROOT)},
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            told.extend(itertools.takewhile(lambda line: "which is running in a worktree of" not in line, other.stdout))
        return true(self, *arguments)

    monkeypatch.setattr(Versions, "create", slow)
    published(in_(here))
    told.extend(other.stdout)
    assert other.wait() == 0, "".join(told)
    found = History(here.root).decided("denoiser")
    assert [one.version for one in found] == [1, 2] and found[0].intent.key != found[1].intent.key
