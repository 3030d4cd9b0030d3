"""Two worktrees of one repository, each with an MLflow of its own: what the one decides, the other follows."""

import os
import shutil

import pytest
from checkouts import git
from registered import versions

from flows.history.known import History
from flows.registry import publish, records
from flows.registry.versions import CHAMPION
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
